"""A run of two ranks in this process, whose metrics are served over HTTP as they are in training."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
import yaml

from octoscale.data.loader import Batch
from octoscale.distributed.world import World
from octoscale.measured import Measured, StepLine
from octoscale.step import StepResult, TermMeans
from octoscale.telemetry.config import TelemetryConfig
from octoscale.telemetry.diagnostics import Diagnostics
from octoscale.telemetry.export import exported
from octoscale.telemetry.goodput import WallLedger

BATCH = 16


def line(step: int, *, loss: float = 0.5) -> StepLine:
    """A step of 0.4 s, half of it in `embed`, after a wait of 0.1 s."""
    terms = {
        "hhh": TermMeans(loss, 0.25, 1.5, 2.5, 0.125, 0.0625),
        "lll": TermMeans(loss / 2, 0.75, 1.25, 2.25, 0.5, 0.25),
    }
    result = StepResult(
        1.5 * loss, terms, 3.0, 4.0, embedding_norm_deviation=0.5, diagnostics=Diagnostics(7.5, {"hhh": 3, "lll": 1}),
        phase_seconds={"embed": 0.2, "exchange": 0.1, "second_pass": 0.1}, sent_bytes=1000,
    )  # fmt: skip
    return StepLine(step, 1, step - 1, 5, 1e-3, step_seconds=0.4, data_wait_seconds=0.1, result=result)


class Ranks:
    """The ranks of one attempt. `steps` are taken by all of them."""

    def __init__(self, measured: list[Measured]) -> None:
        self._measured = measured
        self._step = 0

    def steps(self, count: int) -> None:
        """Take steps; rank 0 tells of the job."""
        rows = BATCH // len(self._measured)
        batch = Batch(torch.zeros(rows, 3, 2, 2), torch.arange(rows) // 2, torch.arange(rows), (), queue_depth=2)
        for _ in range(count):
            self._step += 1
            for measured in self._measured:
                measured.step(line(self._step), batch)
            self._measured[0].together(False, step=self._step, global_batch_size=BATCH)

    def commit_and_evaluate(self) -> None:
        """On rank 0."""
        self._measured[0].committed(0.5, 1000)
        self._measured[0].evaluated(1.0, [("cross", 7, 0.75), ("cross", 112, 0.9875), ("same", 7, 0.625)])


@contextmanager
def trained(directory: Path, world_size: int = 2, *, attempt: int = 1, **telemetry: object) -> Iterator[Ranks]:
    """`world_size` ranks that train the run in `directory` while the block lasts."""
    config = TelemetryConfig.model_validate(telemetry)
    directory.mkdir(exist_ok=True)
    (directory / "config.yaml").write_text(
        yaml.safe_dump({"directory": str(directory), "steps": 100, "telemetry": config.model_dump(mode="json")})
    )
    with ExitStack() as stack:
        metrics = [
            stack.enter_context(
                exported(config, run=str(directory), run_folder=directory, rank=rank, world_size=world_size)
            )
            for rank in range(world_size)
        ]
        ledgers = [WallLedger(one, began=time.time() - 10, attempt=attempt) for one in metrics]
        # Each world is of one: what the ranks tell each other is not looked at here.
        yield Ranks([Measured(one, ledger, World()) for one, ledger in zip(metrics, ledgers, strict=True)])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of a run."""
    return tmp_path / "run"
