"""Batches in the order of the plan, from this process or from workers."""

import multiprocessing

import numpy as np
import pytest
import torch

from octoscale.data.index import Index
from octoscale.data.loader import load_batches
from octoscale.data.plan import epoch_plan
from octoscale.data.reader import ImageReader
from octoscale.errors import OctoscaleError
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
def test_a_damaged_image_ends_in_one_clear_sentence(packed: Index, rows: np.ndarray, workers: int) -> None:
    damaged = int(rows[1, 2])
    damage(packed, damaged)
    batches = load_batches(ImageReader(packed, packed.directory), rows, workers=workers)

    assert next(batches).sample_ids.tolist() == rows[0].tolist()
    with pytest.raises(OctoscaleError, match=f"^sample {damaged} at byte") as caught:
        next(batches)

    assert "Traceback" not in str(caught.value)
    assert multiprocessing.active_children() == []


def test_workers_end_when_the_consumer_stops_early(packed: Index, rows: np.ndarray) -> None:
    batches = load_batches(ImageReader(packed, packed.directory), rows, workers=1)
    next(batches)
    assert len(multiprocessing.active_children()) == 1

    batches.close()

    assert multiprocessing.active_children() == []
