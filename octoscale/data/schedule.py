"""When each shard is needed on this node: the plan, turned around."""

import numpy as np
from numpy.typing import NDArray

from octoscale.data.image_pool import rows_dtype
from octoscale.data.index import Index

NEVER = np.iinfo(np.int64).max


class EpochUses:
    """Every use of every shard in one epoch, sorted by shard and then by batch.

    Args:
        index: of the data set.
        rows: int [batches, n], the sample ids that this node reads in each batch.
        start: the time of its first batch; times count batches over all epochs.
    """

    def __init__(self, index: Index, rows: NDArray[np.integer], start: int) -> None:
        self.start = start
        self.end = start + len(rows)
        self._span = max(1, len(rows))
        shards = index.shard_ids[rows.reshape(-1)]
        order = np.argsort(shards, kind="stable")
        self._rows: NDArray[np.integer] = rows.reshape(-1)[order].astype(rows_dtype(len(index)))
        # One number per use, ascending, and an end: one search finds the uses of all shards before a time.
        keys = shards[order].astype(np.int64) * self._span + order // max(1, rows.shape[1])
        self._keys = np.append(keys, NEVER)
        self._bytes = np.concatenate([[0], np.cumsum(index.sizes[self._rows], dtype=np.int64)])
        self._shards = np.arange(len(index.manifest.shards))

    def next_uses(self, after: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each shard the time of its first use at or after `after`; NEVER where there is none: int64 [shards]."""
        keys = self._keys[self._places(after)]
        mine = keys // self._span == self._shards
        uses: NDArray[np.int64] = np.where(mine, keys % self._span + self.start, NEVER)
        return uses

    def needed_bytes(self, first: int, last: int) -> NDArray[np.int64]:
        """For each shard the bytes of its images that are used at times [first, last]: int64 [shards]."""
        before, after = (self._bytes[self._places(np.full(len(self._shards), time))] for time in (first, last + 1))
        needed: NDArray[np.int64] = after - before
        return needed

    def rows_of(self, shard: int, first: int, last: int) -> NDArray[np.integer]:
        """The sample ids of `shard` that are used at times [first, last], in order of use."""
        begin, end = (self._key(shard, time) for time in (first, last + 1))
        places = np.searchsorted(self._keys, [begin, end])
        return self._rows[places[0] : places[1]]

    def _places(self, times: NDArray[np.int64]) -> NDArray[np.intp]:
        """Where in the sorted uses each shard's uses from `times` [shards] on begin."""
        batches = np.clip(times - self.start, 0, self._span)
        return np.searchsorted(self._keys, self._shards * self._span + batches)

    def _key(self, shard: int, time: int) -> int:
        return shard * self._span + min(max(time - self.start, 0), self._span)


class Timeline:
    """The uses of the present epoch and of those after it that are planned already."""

    def __init__(self, shard_count: int) -> None:
        self._shard_count = shard_count
        self._epochs: list[EpochUses] = []

    @property
    def end(self) -> int:
        """The time after the last planned batch."""
        return self._epochs[-1].end if self._epochs else 0

    def append(self, epoch: EpochUses) -> None:
        """Add the epoch after the last one."""
        assert epoch.start == self.end or not self._epochs
        self._epochs.append(epoch)

    def forget_before(self, time: int) -> None:
        """Drop the epochs that ended before `time`."""
        self._epochs = [epoch for epoch in self._epochs if epoch.end > time]

    def epoch_end(self, time: int) -> int:
        """The last time of the epoch that holds `time`."""
        return next((epoch.end - 1 for epoch in self._epochs if time < epoch.end), time)

    def next_uses(self, after: NDArray[np.int64]) -> NDArray[np.int64]:
        """As `EpochUses.next_uses`, over all epochs."""
        found = np.full(self._shard_count, NEVER)
        for epoch in reversed(self._epochs):
            uses = epoch.next_uses(after)
            found = np.where(uses < NEVER, uses, found)
        return found

    def needed_bytes(self, first: int, last: int) -> NDArray[np.int64]:
        """As `EpochUses.needed_bytes`; an image that is used in two epochs counts twice."""
        total = np.zeros(self._shard_count, np.int64)
        for epoch in self._epochs:
            if first < epoch.end and last >= epoch.start:
                total += epoch.needed_bytes(first, last)
        return total

    def rows_of(self, shard: int, first: int, last: int) -> NDArray[np.integer]:
        """The sample ids of `shard` that are used at times [first, last], each once, ascending."""
        parts = [epoch.rows_of(shard, first, last) for epoch in self._epochs]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)
