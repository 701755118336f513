"""Batches in the order of the plan, from this process or from workers."""

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from octoscale.data.index import Index
from octoscale.data.loader import READY_BATCHES, load_batches
from octoscale.data.plan import epoch_plan
from octoscale.data.reader import ImageReader
from octoscale.errors import OctoscaleError
from tests.unit.data.test_plan_background import until
from tests.unit.data.test_reader import damage


@pytest.fixture
def rows(packed: Index) -> np.ndarray:
    return epoch_plan(packed.images_per_identity, global_batch_size=4, seed=0, epoch=0)


def test_a_batch_holds_the_planned_samples_in_pairs(packed: Index, rows: np.ndarray) -> None:
    reader = ImageReader(packed, packed.directory)

    batches = list(load_batches(reader, rows, workers=0))

    assert len(batches) == len(rows) > 1
    for batch, row in zip(batches, rows, strict=True):
        assert batch.sample_ids.tolist() == row.tolist()
        assert torch.equal(batch.high, reader.__getitems__(row))
        assert batch.identities.tolist() == (row // 4).tolist()
        assert torch.equal(batch.identities[0::2], batch.identities[1::2])
        assert batch.identities.dtype == batch.sample_ids.dtype == torch.int64


def test_workers_give_the_same_batches_and_leave_the_random_state_alone(packed: Index, rows: np.ndarray) -> None:
    reader = ImageReader(packed, packed.directory)
    expected = list(load_batches(reader, rows, workers=0))
    state = torch.get_rng_state()

    batches = list(load_batches(reader, rows, workers=2))

    assert torch.equal(torch.get_rng_state(), state)
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert torch.equal(batch.high, other.high)
        assert torch.equal(batch.identities, other.identities)
        assert torch.equal(batch.sample_ids, other.sample_ids)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_gives_its_place_to_another_one_of_the_identity(
    packed: Index, rows: np.ndarray, workers: int
) -> None:
    damaged = int(rows[1, 2])
    damage(packed, damaged)
    reader = ImageReader(packed, packed.directory)

    batches = list(load_batches(reader, rows, workers=workers))

    assert [batch.sample_ids.tolist() for batch in batches] == rows.tolist()
    (substitution,) = batches[1].substitutions
    assert substitution.sample_id == damaged
    assert substitution.substitute // 4 == damaged // 4
    assert substitution.substitute not in rows[1]
    assert "crc32 differs" in substitution.cause
    assert torch.equal(batches[1].high[2], reader[substitution.substitute])
    assert not batches[0].substitutions


@pytest.mark.parametrize("workers", [0, 1])
def test_an_identity_without_a_good_image_ends_in_one_clear_sentence(
    packed: Index, rows: np.ndarray, workers: int
) -> None:
    first = int(rows[1, 2]) // 4 * 4
    for sample_id in range(first, first + 4):
        damage(packed, sample_id)
    batches = load_batches(ImageReader(packed, packed.directory), rows, workers=workers)

    with pytest.raises(OctoscaleError, match=r"^no image of identity '\w' can be read, all 4 were tried") as caught:
        list(batches)

    assert "Traceback" not in str(caught.value)
    assert multiprocessing.active_children() == []


def test_an_error_of_the_plan_ends_the_reading(packed: Index, rows: np.ndarray) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield rows[0]
        raise OctoscaleError("no more")

    batches = load_batches(ImageReader(packed, packed.directory), broken(), workers=0)

    next(batches)
    with pytest.raises(OctoscaleError, match="no more"):
        next(batches)


def test_reading_goes_ahead_of_the_consumer_and_then_waits(packed: Index, rows: np.ndarray) -> None:
    drawn: list[int] = []

    def endless() -> Iterator[np.ndarray]:
        for number in itertools.count():
            drawn.append(number)
            yield rows[number % len(rows)]

    batches = load_batches(ImageReader(packed, packed.directory), endless(), workers=0)
    first = next(batches)
    # That one, those that are ready, and one that waits for a place among them.
    until(lambda: len(drawn) == READY_BATCHES + 2)
    time.sleep(0.2)

    assert len(drawn) == READY_BATCHES + 2
    assert first.queue_depth <= READY_BATCHES
    # The one that waits may have its place before they are counted.
    assert next(batches).queue_depth in (READY_BATCHES - 1, READY_BATCHES)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "loader"]


def test_a_worker_that_is_killed_is_an_error_not_a_wait(packed: Index, rows: np.ndarray) -> None:
    batches = load_batches(
        ImageReader(packed, packed.directory), itertools.chain.from_iterable(itertools.repeat(rows)), workers=1
    )
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(OctoscaleError, match="a data worker died"):
        list(batches)


def test_workers_end_when_the_consumer_stops_early(packed: Index, rows: np.ndarray) -> None:
    batches = load_batches(ImageReader(packed, packed.directory), rows, workers=1)
    next(batches)
    assert len(multiprocessing.active_children()) == 1

    batches.close()

    assert multiprocessing.active_children() == []
