"""Speed, what is left, and what the run waits for: from the last steps and all that lies between them."""

from typing import Any

import pytest

from octoscale.telemetry.pace import Figures, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def stepped(
    pace: Pace, clock: Clock, step: int, *, seconds: float = 1.0, wait: float = 0.0, more: float = 0.0
) -> Figures:
    """A step of `seconds` after a wait, and after `more` seconds of something else."""
    clock.now += seconds + wait + more
    values: dict[str, Any] = {"epoch": 0, "loss": 1.0, "active_ratio": 0.5, "learning_rate": 0.1}
    return pace.step(step, step_seconds=seconds, data_wait_seconds=wait, **values)


def test_the_first_step_has_a_speed_already() -> None:
    clock = Clock()
    pace = Pace(global_batch_size=64, steps=10, clock=clock)

    figures = stepped(pace, clock, 1, seconds=1.5, wait=0.5, more=100.0)

    assert figures.images_per_second == pytest.approx(32)
    assert figures.data_wait_ratio == pytest.approx(0.25)
    assert figures.eta_seconds == pytest.approx(18)


def test_what_lies_between_steps_counts() -> None:
    clock = Clock()
    pace = Pace(global_batch_size=10, steps=4, clock=clock)
    stepped(pace, clock, 1)
    figures = stepped(pace, clock, 2, more=8.0)

    # Two steps in 10 s, of which a commit took 8.
    assert figures.images_per_second == pytest.approx(2)
    assert figures.eta_seconds == pytest.approx(10)


def test_old_steps_are_forgotten() -> None:
    clock = Clock()
    pace = Pace(global_batch_size=10, steps=1000, clock=clock)
    for step in range(200):
        stepped(pace, clock, step, seconds=100.0)
    for step in range(200, 328):
        figures = stepped(pace, clock, step)

    assert figures.images_per_second == pytest.approx(10)


def test_a_resumed_run_has_the_rest_before_it() -> None:
    clock = Clock()
    pace = Pace(global_batch_size=10, steps=100, clock=clock)

    assert stepped(pace, clock, 91).eta_seconds == pytest.approx(9)
    assert stepped(pace, clock, 101).eta_seconds == 0


def test_a_commit_ages() -> None:
    clock = Clock()
    pace = Pace(global_batch_size=10, steps=100, clock=clock)
    assert stepped(pace, clock, 1).checkpoint_age_seconds is None
    pace.committed()

    assert stepped(pace, clock, 2, seconds=3.0).checkpoint_age_seconds == pytest.approx(3)
