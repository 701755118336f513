"""What the second pass of a step costs in time, and what it saves in memory.

    python tools/bench/two_pass.py [--batch 64] [--micro 16] [--rounds 7] [--large 8192]

Prints JSON. Time: the same step on the same images in one pass and in two, in turns; read the ratio. The margin is so
large that every chunk has a gradient: in a run, chunks without one are not embedded again. Memory: the peak resident
set of a fresh process that makes one step, at a small and at a large global batch with the same chunks; `--large 0`
leaves it out, since it takes minutes.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys

import torch
from support.measure import describe_machine, ratio, take_turns
from support.training import SIZE, engine_of, random_batch

import octoscale
from octoscale.data.loader import Batch
from octoscale.degrade import DegradeConfig
from octoscale.distributed.world import World
from octoscale.loss.config import LossConfig
from octoscale.models import load
from octoscale.step import StepConfig, training_step

CPU = torch.device("cpu")
SMALL = 256


class Trainer:
    """A network of its own, and steps on one batch."""

    def __init__(self, model: str, batch: Batch, micro_batch_size: int | None) -> None:
        torch.manual_seed(0)
        self._engine = engine_of(load(model), World())
        self._batch = batch
        self._config = StepConfig(
            micro_batch_size=micro_batch_size, degrade=DegradeConfig(), loss=LossConfig(margin=1e4)
        )

    def step(self) -> None:
        training_step(self._batch, self._engine, self._config, World(), seed=0, epoch=0, learning_rate=1e-6)


def peak_bytes(model: str, size: int, micro_batch_size: int) -> tuple[int, float]:
    """The peak resident set of a fresh process that makes one step; bytes, and the step's seconds."""
    command = [sys.executable, __file__, "--model", model, "--micro", str(micro_batch_size), "--one-step", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, seconds = json.loads(done.stdout)
    return peak, seconds


def one_step(model: str, size: int, micro_batch_size: int) -> None:
    trainer = Trainer(model, random_batch(size), micro_batch_size)
    seconds = take_turns({"step": trainer.step}, CPU, rounds=1, budget_seconds=0)["step"][0]
    print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, seconds]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--batch", type=int, default=64, help="global batch of the timing")
    parser.add_argument("--micro", type=int, default=16, help="micro_batch_size of the timing")
    parser.add_argument("--memory-micro", type=int, default=64, help="micro_batch_size of the memory")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--large", type=int, default=8192, help="the large global batch; 0: no memory is measured")
    parser.add_argument("--one-step", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_step:
        one_step(arguments.model, arguments.one_step, arguments.micro)
        return

    machine = describe_machine(CPU)
    batch = random_batch(arguments.batch)
    calls = {
        "one_pass": Trainer(arguments.model, batch, None).step,
        "two_passes": Trainer(arguments.model, batch, arguments.micro).step,
    }
    for call in calls.values():
        call()
    seconds = take_turns(calls, CPU, rounds=arguments.rounds, budget_seconds=600)
    report = {
        "model": arguments.model,
        "time": {
            "global_batch_size": arguments.batch,
            "micro_batch_size": arguments.micro,
            **{
                f"{name}_seconds_per_image_median": statistics.median(seconds[name]) / arguments.batch for name in calls
            },
            "two_passes_over_one": ratio(seconds["two_passes"], seconds["one_pass"]),
            "rounds": len(seconds["one_pass"]),
        },
    }
    if arguments.large:
        small, large = (peak_bytes(arguments.model, size, arguments.memory_micro) for size in (SMALL, arguments.large))
        report["memory"] = {
            "micro_batch_size": arguments.memory_micro,
            "peak_mib": {str(SMALL): round(small[0] / 2**20), str(arguments.large): round(large[0] / 2**20)},
            "large_over_small": round(large[0] / small[0], 3),
            "images_mib": {str(size): round(size * 3 * SIZE**2 / 2**20) for size in (SMALL, arguments.large)},
            "step_seconds": {str(SMALL): round(small[1], 1), str(arguments.large): round(large[1], 1)},
        }
    versions = {"octoscale": octoscale.__version__, "torch": torch.__version__, "python": platform.python_version()}
    print(json.dumps({**report, "versions": versions, "machine": machine}, indent=1))


if __name__ == "__main__":
    main()
