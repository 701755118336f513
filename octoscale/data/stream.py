"""The plan turned into batches: epoch after epoch, from any point on."""

import zlib
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from octoscale.data.image_pool import Rows
from octoscale.data.loader import Batch, load_batches
from octoscale.data.plan import rank_rows
from octoscale.data.planner import Planner
from octoscale.data.prefetch import Arrivals
from octoscale.data.reader import ImageReader


@dataclass(frozen=True)
class _Place:
    """Where a batch stands: `number` of `epoch_batches` in `epoch`; `time` counts on over the epochs."""

    epoch: int
    number: int
    epoch_batches: int
    sample_ids_crc32: int
    time: int


@dataclass(frozen=True)
class PlannedBatch:
    """This rank's part of one global batch, and where that stands in the plan.

    Attributes:
        number: which batch of the epoch, from 0, of `epoch_batches`.
        sample_ids_crc32: of the whole global batch's sample ids, int64 little-endian.
    """

    batch: Batch
    epoch: int
    number: int
    epoch_batches: int
    sample_ids_crc32: int


def planned_batches(
    planner: Planner,
    reader: ImageReader,
    arrivals: Arrivals,
    *,
    epoch: int,
    batch: int,
    rank: int,
    world_size: int,
    workers: int,
    batches: int | None = None,
    epochs: int | None = None,
) -> Generator[PlannedBatch, None, None]:
    """Rank `rank`'s part of every global batch from batch `batch` of epoch `epoch` on.

    Closing it ends what it has started, but neither `planner` nor `arrivals`.

    Args:
        batches: end after so many; None for no end.
        epochs: end before this epoch; None for no end. Nothing is planned, fetched or read beyond the end.

    Raises:
        OctoscaleError: too few identities for the batch size, a batch size that the ranks cannot share, or an image
            that cannot be had.
    """
    places: deque[_Place] = deque()

    def plan_of(current: int, left: int | None) -> tuple[Rows, int]:
        """The plan of an epoch up to the end of the run, and how many batches the whole epoch has."""
        whole = planner.epoch(current)
        first = batch if current == epoch else 0
        return whole if left is None else whole[: first + left], len(whole)

    def rows() -> Iterator[NDArray[np.integer]]:
        """Runs ahead of the training, in the loader's thread."""
        start, left = 0, batches
        plan, epoch_batches = plan_of(epoch, left)
        arrivals.plan(plan, start)
        for current in count(epoch):
            first = batch if current == epoch else 0
            left = None if left is None else left - (len(plan) - first)
            is_last = left == 0 or current + 1 == epochs
            if not is_last:
                planner.prepare(current + 1)
            mine = rank_rows(plan, rank, world_size)
            following = None
            for number in range(first, len(plan)):
                if following is None and not is_last and planner.ready(current + 1):
                    following = plan_of(current + 1, left)
                    arrivals.plan(following[0], start + len(plan))
                crc = zlib.crc32(plan[number].astype("<i8").tobytes())
                places.append(_Place(current, number, epoch_batches, crc, start + number))
                yield mine[number]
            if is_last:
                return
            if following is None:
                following = plan_of(current + 1, left)
                arrivals.plan(following[0], start + len(plan))
            start += len(plan)
            plan, epoch_batches = following

    for part in load_batches(reader, rows(), workers=workers, arrivals=arrivals):
        place = places.popleft()
        arrivals.consumed(place.time)
        yield PlannedBatch(part, place.epoch, place.number, place.epoch_batches, place.sample_ids_crc32)
