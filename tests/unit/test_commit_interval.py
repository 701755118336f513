"""When to commit: steps, seconds, or the optimum of Young and Daly."""

import math
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from octoscale.checkpoint import CheckpointConfig, CommitInterval
from octoscale.checkpoint.attempts import Claim
from octoscale.checkpoint.interval import PRIOR_SECONDS_BETWEEN_FAILURES, seconds_between_failures
from octoscale.distributed.world import World


def claim(*, failures: int = 0, trained_seconds: float = 0.0) -> Claim:
    return Claim(
        number=1, token="0", host="here", pid=1, unix_time=0, version="0", failures=failures,
        trained_seconds=trained_seconds,
    )  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def committed_steps(
    attempt: Claim, steps: int, *, step_seconds: float = 2.0, stall: float = 0.5, slowdown: float = 0.0, **config: Any
) -> list[int]:
    """The steps after which a run of `steps` steps commits; a commit slows the step after it."""
    clock = Clock()
    interval = CommitInterval(CheckpointConfig(**config), World(), attempt, 0, clock)
    committed: list[int] = []
    for step in range(1, steps + 1):
        beside = bool(committed) and committed[-1] == step - 1
        clock.now += step_seconds + (slowdown if beside else 0.0)
        if interval.due(step, under_way=beside):
            committed.append(step)
            clock.now += stall
            interval.committed(step, stall)
    return committed


def test_a_number_of_steps_gives_its_multiples() -> None:
    assert committed_steps(claim(), 35, every_steps=10) == [10, 20, 30]


def test_seconds_become_steps_by_the_measured_time_of_a_step() -> None:
    steps = committed_steps(claim(), 200, every_seconds=60, step_seconds=2.0)
    assert {later - earlier for earlier, later in pairwise(steps)} == {30}


def test_seconds_shorter_than_a_step_commit_every_step() -> None:
    assert committed_steps(claim(), 4, every_seconds=0.1) == [1, 2, 3, 4]


def test_auto_is_the_optimum_of_young_and_daly_from_stall_and_slower_steps() -> None:
    attempt = claim(failures=4, trained_seconds=4 * 3600.0)
    steps = committed_steps(attempt, 1000, every_steps="auto", stall=0.5, slowdown=1.5)
    # A failure an hour, 2 s a step, and a cost of 2 s.
    expected = math.sqrt(2 * 3600 * 2.0) / 2.0
    for earlier, later in pairwise(steps[1:]):
        assert later - earlier == pytest.approx(expected, rel=0.1)


def test_without_a_failure_the_prior_counts_until_the_run_is_older() -> None:
    assert seconds_between_failures(claim(), 60.0) == PRIOR_SECONDS_BETWEEN_FAILURES
    assert seconds_between_failures(claim(trained_seconds=1e6), 1e6) == 2e6
    assert seconds_between_failures(claim(failures=2, trained_seconds=500.0), 100.0) == 300.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"every_steps": 10, "every_seconds": 5.0}, "one of the two"),
        ({"every_steps": None}, "one of the two"),
        ({"every_steps": 0}, "at least 1"),
        ({"every_seconds": 0}, "greater than 0"),
    ],
)
def test_exactly_one_interval_is_given(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CheckpointConfig(**values)


def test_seconds_take_the_place_of_the_default_steps() -> None:
    config = CheckpointConfig(every_seconds=30.0)
    assert config.every_steps is None
    assert CheckpointConfig(**config.model_dump()) == config
