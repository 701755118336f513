"""Processes that map: order, bounds, and ends."""

import os
import signal
from collections.abc import Iterator

import pytest

from octoscale.data.workers import Workers
from octoscale.errors import OctoscaleError


def square_or_die(number: int) -> int:
    if number == -1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == -2:
        raise OctoscaleError("minus two")
    return number * number


def test_one_worker_is_this_process_and_takes_a_task_at_a_time() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(3):
            taken.append(number)
            yield number

    with Workers(1) as workers:
        results = workers.map(lambda number: number + 1, tasks())
        assert next(results) == 1
        assert taken == [0]


def test_two_workers_keep_the_order_and_the_bound_and_their_errors() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    with Workers(2) as workers:
        results = workers.map(square_or_die, tasks())
        assert next(results) == 0
        assert len(taken) <= 4
        assert list(results) == [number**2 for number in range(1, 20)]
        with pytest.raises(OctoscaleError, match="minus two"):
            list(workers.map(square_or_die, [1, -2, 3]))
        with pytest.raises(OctoscaleError, match="one of 2 worker processes died"):
            list(workers.map(square_or_die, [1, -1, 3]))
