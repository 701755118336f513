"""What an attempt leaves in the run's directory for the next one."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from octoscale import heartbeat
from octoscale.data.storage import Store
from octoscale.heartbeat import Heart, Heartbeat, last_heartbeat


@contextmanager
def attempt(store: Store, number: int, *, every_seconds: float = 60.0, failures: int = 0) -> Iterator[Heart]:
    """One start of a run; it ends with the block."""
    heart = Heart(store, number, last_heartbeat(store, number), lambda: failures, every_seconds=every_seconds)
    try:
        yield heart
    finally:
        heart.stop()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end waits for the last sign of life, however slow the disk is."""
    monkeypatch.setattr(heartbeat, "_PATIENCE_SECONDS", 60.0)


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.mark.usefixtures("patient")
def test_the_next_attempt_knows_how_far_the_former_came_and_when(store: Store) -> None:
    started = time.time()
    with attempt(store, 1, failures=2) as heart:
        heart.step(1)
        heart.step(5)
    beat = last_heartbeat(store, 2)
    assert beat is not None
    assert beat == Heartbeat(attempt=1, step=5, time=beat.time, reached=5, checkpoint_failures=2)
    assert started <= beat.time <= time.time()
    assert last_heartbeat(store, 1) is None


def test_it_beats_while_the_training_goes_on(store: Store) -> None:
    with attempt(store, 1, every_seconds=0.01) as heart:
        for step in (1, 2, 3):
            heart.step(step)
            wait_for(lambda step=step: (beat := last_heartbeat(store, 2)) is not None and beat.step == step)


@pytest.mark.usefixtures("patient")
def test_an_attempt_that_came_less_far_keeps_what_was_reached_and_takes_the_files_away(store: Store) -> None:
    with attempt(store, 1) as heart:
        heart.step(100)
    with attempt(store, 2) as heart:
        heart.step(90)
    assert store.list() == ["heartbeats/000002.json"]
    beat = last_heartbeat(store, 3)
    assert beat is not None
    assert (beat.attempt, beat.step, beat.reached) == (2, 90, 100)


@pytest.mark.usefixtures("patient")
def test_an_attempt_without_a_step_leaves_the_signs_of_the_one_before(store: Store) -> None:
    with attempt(store, 1) as heart:
        heart.step(7)
    with attempt(store, 2):
        pass
    beat = last_heartbeat(store, 3)
    assert beat is not None
    assert (beat.attempt, beat.step) == (1, 7)


def test_a_sign_that_makes_no_sense_is_none(store: Store) -> None:
    store.write("heartbeats/000001.json", b"{")
    assert last_heartbeat(store, 2) is None


@pytest.mark.usefixtures("patient")
def test_a_storage_that_fails_is_told_and_disturbs_nothing(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "octoscale")
    (tmp_path / "heartbeats").write_text("a file where a folder should be")
    with attempt(store, 1) as heart:
        heart.step(1)
    assert "no sign of life; the next attempt may not know how far this one got" in caplog.text
    assert last_heartbeat(store, 2) is None


def test_a_storage_that_does_not_answer_holds_nobody_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(Store, "write", lambda *arguments, **settings: answered.wait(120))
    started = time.monotonic()
    with attempt(store, 1) as heart:
        for step in range(1000):
            heart.step(step)
    answered.set()
    assert time.monotonic() - started < 60
