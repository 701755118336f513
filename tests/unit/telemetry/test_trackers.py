"""The thread that tells a tracker, and which run it tells of."""

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from octoscale.errors import OctoscaleError
from octoscale.telemetry.config import TelemetryConfig
from octoscale.telemetry.export import exported
from octoscale.telemetry.trackers import Entry, Tracker, run_id

# The thread.


class Told:
    """A sink that keeps what it is told, refuses some steps, and waits for a gate."""

    def __init__(self, *, refused: Sequence[int] = (), gate: threading.Event | None = None) -> None:
        self.steps: list[int] = []
        self.is_closed = False
        self.calls = threading.Semaphore(0)
        self._refused, self._gate = refused, gate

    def log(self, entries: Sequence[Entry]) -> None:
        if self._gate is not None:
            self._gate.wait()
        self.calls.release()
        if any(entry.step in self._refused for entry in entries):
            raise ConnectionError("no route to host\n  and a long story")
        self.steps += [entry.step for entry in entries]

    def close(self) -> None:
        self.is_closed = True


def test_all_steps_are_told_in_order_before_it_is_closed() -> None:
    sink = Told()
    tracker = Tracker("here", lambda: sink)
    for step in range(100):
        tracker.record(step, {"a": 1.0})
    tracker.close()
    assert sink.steps == list(range(100))
    assert sink.is_closed


def test_a_tracker_that_is_stuck_blocks_neither_a_step_nor_the_end(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    tracker = Tracker("here", lambda: Told(gate=gate), queue_steps=5, timeout_seconds=0.2)
    started = time.monotonic()
    for step in range(50):
        tracker.record(step, {"a": 1.0})
    tracker.close()
    taken = time.monotonic() - started
    gate.set()
    assert taken < 60
    assert caplog.text.count("here does not keep up") == 1
    assert "has not ended within 0.2 s" in caplog.text


def test_steps_that_are_refused_are_named_once_and_the_others_told(caplog: pytest.LogCaptureFixture) -> None:
    sink = Told(refused=[1, 2])
    tracker = Tracker("here", lambda: sink)
    for step in (1, 2, 3):
        tracker.record(step, {"a": 1.0})
        assert sink.calls.acquire(timeout=60)
    tracker.close()
    assert sink.steps == [3]
    assert caplog.text.count("here did not take step 1: no route to host\n") == 1
    assert "2 steps are missing there" in caplog.text


def test_a_run_goes_on_without_a_tracker_that_cannot_be_opened(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Told:
        raise PermissionError("no key")

    tracker = Tracker("here", fail)
    tracker._thread.join(60)
    tracker.record(1, {"a": 1.0})
    tracker.close()
    assert [it.getMessage() for it in caplog.records] == ["here ends here, and the run goes on without it: no key"]


# Which run.


def test_a_local_run_keeps_its_name_and_a_remote_ones_follows_from_its_url(tmp_path: Path) -> None:
    here, there = tmp_path / "a", tmp_path / "b"
    here.mkdir()
    there.mkdir()
    assert run_id("runs/a", here) == run_id("/home/me/runs/a", here) != run_id("runs/a", there)
    assert run_id("s3://bucket/a", here) == run_id("s3://bucket/a", there) != run_id("s3://bucket/b", here)


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_named_with_its_extra(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    config = TelemetryConfig.model_validate({"recorders": [package]})
    with pytest.raises(
        OctoscaleError, match=rf"needs {package}: pip install 'octoscale\[{package}\]', or leave it out"
    ):
        exported(config, run="run", run_folder=tmp_path, rank=0, world_size=1).__enter__()
