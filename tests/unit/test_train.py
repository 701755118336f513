"""The loop: a run resumed gives what an undisturbed one gives, to the bit; it stops when asked, and says what fails."""

import logging
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import octoscale.train
from octoscale.config import parse_config
from octoscale.data.storage import Store
from octoscale.data.stream import PlannedBatch
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.journal import StepLine, read_journal
from octoscale.models.tiny import TinyNet
from octoscale.step import StepResult
from octoscale.train import Position, Summary, after, check_finite, finished, train
from tests.conftest import SmallRun


class CrashError(Exception):
    """The end of the process."""


def run(values: dict[str, Any]) -> Summary:
    return train(parse_config(values, source="of the test"), World(), quiet=True)


def run_until(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], step: int) -> None:
    """Run, and crash in the step after `step`."""
    done = 0
    original = octoscale.train.training_step

    def training_step(*arguments: Any, **settings: Any) -> StepResult:
        nonlocal done
        if done == step:
            raise CrashError
        done += 1
        return original(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(octoscale.train, "training_step", training_step)
        with pytest.raises(CrashError):
            run(values)


def lines(directory: Path) -> list[StepLine]:
    """What each step gave, times apart."""
    return [replace(line, step_seconds=0, data_wait_seconds=0) for line in read_journal(Store(str(directory)))]


def weights(directory: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = torch.load(directory / "weights.pt", weights_only=True)
    return loaded


def assert_same_bits(first: Path, second: Path, *, steps: int) -> None:
    assert [line.step for line in lines(first)] == list(range(1, steps + 1))
    assert lines(first) == lines(second)
    assert weights(first).keys() == weights(second).keys()
    for name, tensor in weights(first).items():
        assert torch.equal(tensor, weights(second)[name]), name


class WithDropout(nn.Module):
    """A user's network whose every step is random."""

    def __init__(self) -> None:
        super().__init__()
        self.tiny = TinyNet(embedding_dim=16)

    def forward(self, images: Tensor) -> Tensor:
        dropped: Tensor = nn.functional.dropout(self.tiny(images), 0.3, self.training)
        return dropped


# The optimizers, the schedules and bf16 are in tests/integration/test_resume.py.
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"epochs": 2, "schedule": {"name": "cosine"}}, id="length in epochs"),
        pytest.param({"augment": {"flip_probability": 0.5, "brightness": 0.2}}, id="augmentation"),
        pytest.param({"model": {"name": f"{__name__}:WithDropout", "embedding_dim": None}}, id="dropout"),
        pytest.param(
            {"model": {"name": f"{__name__}:WithDropout", "embedding_dim": None}, "micro_batch_size": 5},
            id="dropout in two passes",
        ),
    ],
)
def test_a_run_resumed_after_a_crash_gives_the_bits_of_an_undisturbed_one(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    # 5 steps, the crash in the seventh, 4 more of which the sixth is a repetition: past the end of the first epoch.
    changes = {"steps": 9, "checkpoint": {"every_steps": 5}} | changes
    if "epochs" in changes:
        changes["steps"] = None
    whole, broken = small_run(tmp_path / "whole", **changes), small_run(tmp_path / "broken", **changes)

    summary = run(whole)
    run_until(monkeypatch, broken, 6)
    assert [line.step for line in lines(tmp_path / "broken")] == [1, 2, 3, 4, 5]
    assert run(broken).position == summary.position

    assert summary.position.epoch >= 1
    assert_same_bits(tmp_path / "whole", tmp_path / "broken", steps=summary.position.step)


@pytest.mark.parametrize("micro_batch_size", [5, 8, 16])
def test_a_run_in_chunks_is_the_run_without(small_run: SmallRun, tmp_path: Path, micro_batch_size: int) -> None:
    optimizer = {"name": "sgd", "learning_rate": 1e-2}
    run(small_run(tmp_path / "whole", optimizer=optimizer))
    run(small_run(tmp_path / "chunks", optimizer=optimizer, micro_batch_size=micro_batch_size))

    for line, expected in zip(lines(tmp_path / "chunks"), lines(tmp_path / "whole"), strict=True):
        assert line.sample_ids_crc32 == expected.sample_ids_crc32
        # fp32, summed in another order, four steps long.
        assert line.result.loss == pytest.approx(expected.result.loss, rel=1e-5)
        assert line.result.gradient_norm == pytest.approx(expected.result.gradient_norm, rel=1e-3)


@pytest.mark.parametrize("committed", [5, 6])
def test_a_run_goes_on_from_either_side_of_an_epochs_end(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: int
) -> None:
    changes = {"steps": 8, "checkpoint": {"every_steps": committed}}
    run(small_run(tmp_path / "whole", **changes))
    run_until(monkeypatch, small_run(tmp_path / "broken", **changes), committed)
    run(small_run(tmp_path / "broken", **changes))

    assert {line.epoch for line in lines(tmp_path / "whole")} == {0, 1}
    assert_same_bits(tmp_path / "whole", tmp_path / "broken", steps=8)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_run_whose_every_commit_is_damaged_starts_as_a_fresh_one(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    changes = {"checkpoint": {"every_steps": 1}, "optimizer": {"name": name, "weight_decay": 0.1}}
    run(small_run(tmp_path / "whole", **changes))
    run_until(monkeypatch, small_run(tmp_path / "broken", **changes), 2)
    for part in (tmp_path / "broken/checkpoints").glob("step-*/*.distcp"):
        part.write_bytes(b"")

    run(small_run(tmp_path / "broken", **changes))

    assert_same_bits(tmp_path / "whole", tmp_path / "broken", steps=4)
    assert len(list((tmp_path / "broken/checkpoints/damaged").iterdir())) == 2


def test_a_crash_between_a_commit_and_what_follows_it_leaves_no_gap_in_the_journal(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Store.write

    def crash(self: Store, name: str, data: bytes, *, exclusive: bool = False) -> None:
        write(self, name, data, exclusive=exclusive)
        if name == "commits/00000002-000001.json":
            raise CrashError

    changes = {"checkpoint": {"every_steps": 2}}
    run(small_run(tmp_path / "whole", **changes))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", crash)
        with pytest.raises(CrashError):
            run(small_run(tmp_path / "broken", **changes))
    run(small_run(tmp_path / "broken", **changes))

    assert_same_bits(tmp_path / "whole", tmp_path / "broken", steps=4)


def test_sigterm_during_a_commit_lets_it_finish(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = Store.upload
    sent = False

    def terminated(self: Store, local_path: Path, name: str) -> None:
        nonlocal sent
        if not sent:
            os.kill(os.getpid(), signal.SIGTERM)
            sent = True
        upload(self, local_path, name)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Store, "upload", terminated)
    summary = run(small_run(tmp_path / "run", steps=8, checkpoint={"every_steps": 2, "asynchronous": False}))

    # One more step, then the second commit.
    assert (summary.status, summary.position.step) == ("interrupted", 3)
    commits = sorted(path.name for path in (tmp_path / "run/checkpoints/commits").iterdir())
    assert commits == ["00000002-000001.json", "00000003-000001.json"]
    assert signal.getsignal(signal.SIGTERM) == before
    assert not (tmp_path / "run/weights.pt").exists()


def test_a_run_is_made_longer_by_more_steps(small_run: SmallRun, tmp_path: Path) -> None:
    run(small_run(tmp_path / "whole", steps=6))
    run(small_run(tmp_path / "longer", steps=3))
    run(small_run(tmp_path / "longer", steps=6))

    assert_same_bits(tmp_path / "whole", tmp_path / "longer", steps=6)


def test_training_lowers_the_loss(small_run: SmallRun, tmp_path: Path) -> None:
    run(small_run(tmp_path / "run", steps=25, model={"batch_norm": "chunk"}))

    losses = [line.result.loss for line in lines(tmp_path / "run")]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


# Evaluation in the loop.


@pytest.fixture
def evaluated(drawn_faces: Path) -> dict[str, Any]:
    verify = drawn_faces / "verify"
    return {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7, 32], "modes": ["cross"]}


def test_an_evaluation_leaves_the_training_as_it_is(
    small_run: SmallRun, tmp_path: Path, evaluated: dict[str, Any]
) -> None:
    changes = {"model": {"batch_norm": "chunk"}}
    run(small_run(tmp_path / "plain", **changes))
    summary = run(small_run(tmp_path / "evaluated", **changes, evaluate={**evaluated, "every_steps": 3}))

    names = sorted(path.name for path in (tmp_path / "evaluated/evaluations").iterdir())
    assert names == ["00000000.json", "00000003.json", "00000004.json"]
    assert summary.baseline is not None
    assert summary.final is not None
    assert (summary.baseline.step, summary.final.step) == (0, 4)
    assert_same_bits(tmp_path / "plain", tmp_path / "evaluated", steps=4)


def test_a_resumed_run_keeps_its_baseline(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluated: dict[str, Any]
) -> None:
    values = small_run(tmp_path / "run", evaluate=evaluated, checkpoint={"every_steps": 1})
    run_until(monkeypatch, values, 2)
    baseline = (tmp_path / "run/evaluations/00000000.json").read_bytes()

    summary = run(values)

    assert summary.baseline is not None
    assert summary.baseline.to_json().encode() == baseline


# What the user can mend.


@pytest.mark.parametrize(("loss", "norm"), [(float("nan"), 1.0), (1.0, float("inf"))])
def test_a_step_that_gives_no_number_stops_the_run(loss: float, norm: float) -> None:
    with pytest.raises(OctoscaleError, match=r"step 8 gave loss .* learning rate 0\.5; nothing of it is committed"):
        check_finite(StepResult(loss, {}, norm, 1.0), Position(step=7), 0.5)
    with pytest.raises(OctoscaleError, match=r"step 1 gave loss .* as it was loaded: look for damaged weights"):
        check_finite(StepResult(loss, {}, norm, 1.0), Position(), 0.5)


def test_a_step_that_was_skipped_is_told_and_does_not_stop_the_run(caplog: pytest.LogCaptureFixture) -> None:
    check_finite(StepResult(1.0, {}, float("inf"), 1.0, skipped=True), Position(step=7), 0.5)

    assert "step 8 is skipped: its gradients overflowed fp16" in caplog.text


def test_a_diverging_run_keeps_its_good_commits(small_run: SmallRun, tmp_path: Path) -> None:
    values = small_run(tmp_path / "run", checkpoint={"every_steps": 1})

    with pytest.raises(OctoscaleError, match=r"NaN or infinite.*lower the learning rate"):
        run({**values, "steps": 9, "optimizer": {"name": "adamw", "learning_rate": 1e30}})

    # The first step's weights are absurd, but numbers; its successor gave none.
    assert [path.name for path in (tmp_path / "run/checkpoints/commits").iterdir()] == ["00000001-000001.json"]


def test_too_few_identities_are_told_before_the_evaluation(
    small_run: SmallRun, tmp_path: Path, evaluated: dict[str, Any]
) -> None:
    with pytest.raises(OctoscaleError, match=r"needs 25 identities .* has 24; choose a batch size of at most 48"):
        run(small_run(tmp_path / "run", global_batch_size=50, evaluate=evaluated))

    assert not (tmp_path / "run/evaluations").exists()


def test_every_derived_number_is_said_before_the_first_step(
    small_run: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "octoscale")
    run(small_run(tmp_path / "run", telemetry={"recorders": ["prometheus"]}, micro_batch_size=6))

    for text in ("96 images of 24 identities, 32 px", "16 images = 8 identities × 2 = 1 rank × 16", "4 steps",
                 "about 6.0 steps and 96 images per epoch", "2 × 6 images and one of 4 on each rank, in two passes",
                 "cpu, fp32, ddp, tiny, batch norm frozen", "http://127.0.0.1:"):  # fmt: skip
        assert text in caplog.text


# The position.


def planned(number: int, epoch: int = 0) -> PlannedBatch:
    return PlannedBatch(None, epoch, number, 3, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "expected"), [(0, Position(6, 2, 1, 26)), (1, Position(6, 2, 2, 26)), (2, Position(6, 3, 0, 26))]
)
def test_the_position_goes_on_to_the_next_batch_or_the_next_epoch(number: int, expected: Position) -> None:
    assert after(Position(5, 2, number, 10), planned(number, 2), 16) == expected


def test_a_run_is_finished_at_its_length_in_steps_or_epochs(small_run: SmallRun) -> None:
    def ended(position: Position, **changes: Any) -> bool:
        return finished(parse_config(small_run("run", **changes), source=""), position)

    assert not ended(Position(step=3, epoch=9))
    assert ended(Position(step=4))
    assert not ended(Position(step=99, epoch=1), epochs=2)
    assert ended(Position(step=1, epoch=2), epochs=2)


def test_the_learning_rate_follows_epochs_by_their_fractions(small_run: SmallRun) -> None:
    config = parse_config(
        small_run("run", epochs=4, schedule={"name": "step", "milestones": [1.5]}, optimizer={"learning_rate": 1.0}),
        source="",
    )
    rates = [
        octoscale.train.learning_rate(config, Position(step=step), planned(step % 3, step // 3)) for step in range(6)
    ]
    # 1 + 1/3 epochs are done before step 4 (from 0), 1 + 2/3 before step 5.
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.1])


def test_a_failed_commit_ends_the_run_soon_and_not_at_the_next_commit(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, one_step = [], octoscale.train.train_one_step
    asked = threading.Event()

    def refused(self: Store, path: Path, name: str) -> None:
        asked.set()
        raise OctoscaleError("no space is left")

    def counted(*arguments: Any) -> Position:
        position = one_step(*arguments)
        steps.append(position.step)
        # The commit's thread gets its turn, and on a slow disk the time to come so far.
        if position.step > 30:
            assert asked.wait(60)
        time.sleep(0.05)
        return position

    monkeypatch.setattr(Store, "upload", refused)
    monkeypatch.setattr(octoscale.train, "train_one_step", counted)
    with pytest.raises(OctoscaleError, match="no space is left"):
        run(small_run(tmp_path / "run", steps=60, checkpoint={"every_steps": 30}))

    assert 30 <= max(steps) < 45
