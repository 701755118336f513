"""One run on 2, 1 and 2 workers, and its picture: ``python -m tests.integration.faults.elastic FILE.png``."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from octoscale.data.storage import Store
from octoscale.journal import StepLine, read_journal
from tests.distributed.ranks import on_ranks
from tests.integration.faults.faults import OPTIMIZER, Values, train_on_a_rank
from tests.integration.faults.lab import Lab, Traced, lab
from tests.integration.faults.measure import runs_on

STEPS = 100


def values_of(values: Values, directory: str) -> dict[str, Any]:
    return values(
        directory, steps=STEPS, checkpoint={"every_steps": 5}, optimizer=OPTIMIZER, resilience={"resize_seconds": 5}
    )


def two_one_two(lab: Lab, values: Values, directory: str) -> list[Traced]:
    """A node dies and comes back while the run goes on; the trace of all steps."""
    lab.ensure_cluster("a", "b")
    # Alone it is slow, so that the run is still there when the node is back.
    lab.prepare(1, 31, "hold", pace=1.5)
    run = lab.launch(values_of(values, directory), "1..2")
    host = lab.net.host_of(lab.held(run))
    lab.kill_host(host)
    lab.wait(lambda: any(line.world == 1 for line in lab.trace()), 180, lab.told, run)
    lab.start_node(host)
    lab.finish(run, seconds=400)
    return lab.trace()


def worlds_by_step(trace: list[Traced]) -> dict[int, int]:
    """The world size of each step's last, and so committed, time."""
    return {line.step: line.world for line in trace if line.event == "step" and line.rank == 0}


def draw(run: list[StepLine], undisturbed: list[StepLine], worlds: dict[int, int], path: Path) -> None:
    figure, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=(8, 4.5), height_ratios=[3, 1], layout="constrained"
    )
    for lines, label, color, width in (
        (undisturbed, "2 workers, undisturbed", "0.75", 5.0),
        (run, "2, 1 and 2 workers", "C0", 1.2),
    ):
        steps, losses = [line.step for line in lines], [line.result.loss for line in lines]
        above.plot(steps, losses, color=color, linewidth=width, label=label)
    above.set_ylabel("loss")
    above.legend(frameon=False)
    below.step(list(worlds), list(worlds.values()), where="mid", color="C1")
    below.set(xlabel="step", ylabel="workers", yticks=[1, 2], ylim=(0.5, 2.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, lab() as made:
        values = runs_on(Path(folder))
        undisturbed, directory = f"{folder}/undisturbed", str(made.folder / "run")
        on_ranks(2, train_on_a_rank, values_of(values, undisturbed))
        trace = two_one_two(made, values, directory)
        lines = [read_journal(Store(where)) for where in (directory, undisturbed)]
        draw(*lines, worlds_by_step(trace), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
