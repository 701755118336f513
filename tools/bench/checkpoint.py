"""What commits cost the training on this machine: none, asynchronous and synchronous ones, every 10 steps.

    python tools/bench/checkpoint.py [--batch 64] [--rounds 5] [--every 10] [--output checkpoint.png]

Prints JSON and draws a picture. A round trains the same number of steps each way, and the ways take turns, so that a
busy machine slows all; a commit that is under way at the end of a round is waited for outside of it. The stall is
how long the training stands still for a commit, as a share of a step without any; the slowdown is what a step
beside a commit takes longer, since the commit needs a core too.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from support.measure import describe_machine
from support.training import engine_of, random_batch

import octoscale
from octoscale.checkpoint import CheckpointConfig, Checkpoints, Position
from octoscale.distributed.engine import Engine
from octoscale.distributed.world import World
from octoscale.models import load
from octoscale.step import StepConfig, training_step

CPU = torch.device("cpu")
WAYS = ("none", "asynchronous", "synchronous")


class Way:
    """The training with one kind of commit; what its steps and stalls took, in seconds."""

    def __init__(self, name: str, engine: Engine, folder: Path, batch: int, every: int) -> None:
        self._engine, self._every = engine, every
        self._batch = random_batch(batch)
        self._step = 0
        settings = CheckpointConfig(asynchronous=name == "asynchronous")
        self._checkpoints = None if name == "none" else Checkpoints(str(folder / name), World(), settings)
        self.steps: list[float] = []
        self.beside: list[float] = []
        self.stalls: list[float] = []
        self.commits: list[float] = []

    def round(self) -> float:
        """Train `every` steps and commit after the first; the seconds of all, without the wait at the end."""
        began = time.perf_counter()
        for number in range(self._every):
            under_way = self._checkpoints is not None and self._checkpoints.busy
            started = time.perf_counter()
            training_step(self._batch, self._engine, StepConfig(), World(), seed=0, epoch=0, learning_rate=1e-4)
            (self.beside if under_way else self.steps).append(time.perf_counter() - started)
            self._step += 1
            if number == 0 and self._checkpoints is not None:
                started = time.perf_counter()
                state = self._engine.state_dict()
                self._checkpoints.commit(
                    state, Position(self._step), {}, None, then=lambda seconds, _: self.commits.append(seconds)
                )
                self.stalls.append(time.perf_counter() - started)
        seconds = time.perf_counter() - began
        if self._checkpoints is not None:
            self._checkpoints.wait()
        return seconds


def summary(way: Way, rounds: list[float], reference: Way, every: int) -> dict[str, Any]:
    """The first commit is left out: it allocates the memory of the copy."""
    step = statistics.median(reference.steps)
    values: dict[str, Any] = {
        "step_seconds_median": round(statistics.median(way.steps), 4),
        "seconds_per_step_with_commits": round(statistics.median(rounds) / every, 4),
    }
    if way.stalls:
        stall = statistics.median(way.stalls[1:] or way.stalls)
        values |= {
            "stall_seconds_median": round(stall, 5),
            "stall_of_a_step_percent": round(100 * stall / step, 2),
            "commit_seconds_median": round(statistics.median(way.commits), 4),
            "steps_beside_a_commit": len(way.beside),
            "stall_percent_of_the_time_between_commits": round(100 * stall / (step * every), 2),
        }
    if way.beside:
        values["step_beside_a_commit_seconds_median"] = round(statistics.median(way.beside), 4)
    return values


def draw(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    step = result["ways"]["none"]["step_seconds_median"] * 1000
    for row, name in enumerate(WAYS):
        stall = result["ways"][name].get("stall_seconds_median", 0.0) * 1000
        axes.barh(row, step, color="#4477aa", height=0.6)
        axes.barh(row, stall, left=step, color="#ee6677", height=0.6)
        label = f" {step:.0f} ms" + (f" + {stall:.1f} ms ({100 * stall / step:.1f} %)" if stall else "")
        axes.text(step + stall, row, label, va="center")
    axes.set_yticks(range(len(WAYS)), ["no commits" if name == "none" else name for name in WAYS])
    axes.set_xlim(0, step * 2.2)
    axes.set_xlabel("ms: a step (blue), and the stall of the training for a commit after it (red)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--output", type=Path, default=Path("checkpoint.png"))
    arguments = parser.parse_args()

    machine = describe_machine(CPU)
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            name: Way(name, engine_of(load(arguments.model), World()), Path(folder), arguments.batch, arguments.every)
            for name in WAYS
        }
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for number in range(arguments.rounds + 1):
            for name in WAYS[:: 1 if number % 2 == 0 else -1]:
                taken = ways[name].round()
                if number:  # the first one warms up
                    seconds[name].append(taken)
    result = {
        "batch": arguments.batch,
        "model": arguments.model,
        "commit_every_steps": arguments.every,
        "rounds": arguments.rounds,
        "ways": {name: summary(ways[name], seconds[name], ways["none"], arguments.every) for name in WAYS},
        "versions": {"octoscale": octoscale.__version__, "torch": torch.__version__},
        "machine": machine,
    }
    draw(result, arguments.output)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
