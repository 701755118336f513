"""Every step is written once, beside its commit, and shown."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from octoscale.data.loader import Batch
from octoscale.data.reader import Substitution
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.journal import Journal, StepLine, read_journal
from octoscale.measured import Measured
from octoscale.step import StepResult, TermMeans
from octoscale.telemetry.diagnostics import Diagnostics
from octoscale.telemetry.goodput import WallLedger
from octoscale.telemetry.metrics import Metrics
from octoscale.telemetry.pace import Pace


def line(step: int, *, loss: float = 0.5, epoch: int = 0) -> StepLine:
    terms = {
        "hhh": TermMeans(loss, 0.25, 1.0, 2.0, 0.125, 0.0625),
        "lll": TermMeans(loss / 3, 0.75, 1.5, 2.5, 0.5, 0.25),
    }
    diagnostics = Diagnostics(7.5, {"hhh": 3, "lll": 1}) if step == 1 else None
    result = StepResult(
        loss, terms, 3.0, 4.0, embedding_norm_deviation=0.5, diagnostics=diagnostics,
        phase_seconds={"embed": 0.1}, sent_bytes=1000,
    )  # fmt: skip
    return StepLine(step, epoch, step - 1, 2**32 - step, 1e-3, 0.2, 0.1, result)


def batch(*substitutions: Substitution) -> Batch:
    images = torch.zeros(8, 3, 2, 2, dtype=torch.uint8)
    return Batch(images, torch.arange(8) // 2, torch.arange(8), substitutions, queue_depth=2)


class Heard:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, /, **values: Any) -> None:
        self.events.append((event, values))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(run="test", rank=0)


def journal_in(folder: Path, metrics: Metrics, heard: Heard | None = None) -> Journal:
    measured = Measured(metrics, WallLedger(metrics), World())
    # The clock of a step that took no time beside what its line says.
    pace = Pace(global_batch_size=8, steps=10, clock=lambda: 100.0)
    return Journal(Store(str(folder)), measured, pace, heard or Heard(), log_every_steps=2)


def test_what_is_written_is_read_back_to_the_bit(tmp_path: Path, metrics: Metrics) -> None:
    journal = journal_in(tmp_path, metrics)
    expected = [line(1, loss=0.1 + 0.2), line(2, loss=1 / 3), line(3, epoch=1)]
    for item in expected[:2]:
        journal.step(item, batch())
    journal.taken(2, is_main=True)()
    journal.step(expected[2], batch())
    journal.taken(3, is_main=True)()

    assert read_journal(Store(str(tmp_path))) == expected
    assert sorted(path.name for path in (tmp_path / "steps").iterdir()) == ["00000002.jsonl", "00000003.jsonl"]


def test_each_line_is_one_json_object(tmp_path: Path, metrics: Metrics) -> None:
    journal = journal_in(tmp_path, metrics)
    journal.step(line(1), batch())
    journal.step(line(2), batch())
    journal.taken(2, is_main=True)()

    objects = [json.loads(text) for text in (tmp_path / "steps/00000002.jsonl").read_text().splitlines()]
    assert [item["step"] for item in objects] == [1, 2]
    assert objects[0]["result"]["terms"]["hhh"]["active_fraction"] == 0.25


def test_a_replayed_step_counts_once_as_replayed(tmp_path: Path, metrics: Metrics) -> None:
    first = journal_in(tmp_path, metrics)
    for step in (1, 2, 3):
        first.step(line(step, loss=9.0), batch())
    first.taken(3, is_main=True)()
    again = journal_in(tmp_path, metrics)
    for step in (2, 3, 4):
        again.step(line(step, loss=1.0), batch())
    again.taken(4, is_main=True)()

    assert [(item.step, item.result.loss) for item in read_journal(Store(str(tmp_path)))] == [
        (1, 9.0),
        (2, 1.0),
        (3, 1.0),
        (4, 1.0),
    ]


def test_the_other_ranks_write_nothing(tmp_path: Path, metrics: Metrics) -> None:
    journal = journal_in(tmp_path, metrics)
    journal.step(line(1), batch())
    journal.taken(1, is_main=False)()

    assert read_journal(Store(str(tmp_path))) == []


def test_a_commit_without_steps_writes_no_file(tmp_path: Path, metrics: Metrics) -> None:
    journal_in(tmp_path, metrics).taken(5, is_main=True)()

    assert list(tmp_path.iterdir()) == []


def test_a_step_is_measured_told_and_now_and_then_logged(
    tmp_path: Path, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "octoscale")
    heard = Heard()
    journal = journal_in(tmp_path, metrics, heard)
    for step in (1, 2, 3):
        journal.step(line(step), batch())
    journal.committed(3, 0.5, 1000)

    assert [(event, values["step"]) for event, values in heard.events] == [
        ("step", 1), ("step", 2), ("step", 3), ("commit", 3),
    ]  # fmt: skip
    first = heard.events[0][1]
    assert (first["loss"], first["active_ratio"], first["steps"], first["checkpoint_age_seconds"]) == (
        0.5,
        0.5,
        10,
        None,
    )
    # 8 images in 0.2 s and a wait of 0.1 s.
    assert first["images_per_second"] == pytest.approx(8 / 0.3)
    assert first["data_wait_ratio"] == pytest.approx(1 / 3)
    step, commit = (record.getMessage() for record in caplog.records)
    assert step.startswith("step 2 of 10  loss 0.5000  active 50%  ")
    assert "no commit yet" in step
    assert commit == "committed step 3 in 0.50 s"
    values = {sample.name: sample.value for family in metrics.registry.collect() for sample in family.samples}
    assert values["octoscale_steps_total"] == 3
    assert values["octoscale_samples_total"] == 24
    assert values["octoscale_step"] == 3
    assert values["octoscale_step_seconds_count"] == 3
    assert values["octoscale_step_seconds_sum"] == pytest.approx(0.6)
    durations = {
        sample.labels["stage"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "octoscale_checkpoint_duration_seconds_sum"
    }
    assert durations == {"commit": 0.5}
