"""The plan turned into batches: epoch after epoch, from any point on."""

import zlib
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from octoscale.data.index import Index
from octoscale.data.loader import Batch, load_batches
from octoscale.data.plan import epoch_plan, rank_rows
from octoscale.data.reader import ImageReader


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
    index: Index,
    reader: ImageReader,
    *,
    global_batch_size: int,
    seed: int,
    epoch: int,
    batch: int,
    rank: int,
    world_size: int,
    workers: int,
) -> Generator[PlannedBatch, None, None]:
    """Rank `rank`'s part of every global batch from batch `batch` of epoch `epoch` on, without end.

    Raises:
        OctoscaleError: too few identities for the batch size, a batch size that the ranks cannot share, or a
            damaged image.
    """
    for current in count(epoch):
        plan = epoch_plan(index.images_per_identity, global_batch_size=global_batch_size, seed=seed, epoch=current)
        first = batch if current == epoch else 0
        rows = rank_rows(plan[first:], rank, world_size)
        for number, part in enumerate(load_batches(reader, rows, workers=workers), start=first):
            crc = zlib.crc32(plan[number].astype("<i8").tobytes())
            yield PlannedBatch(part, current, number, len(plan), crc)
