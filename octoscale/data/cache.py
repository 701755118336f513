"""The shards of a remote data set on this node's disk: fetched when they are due, dropped when they are not."""

import errno
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import numpy as np

from octoscale.data.index import Index
from octoscale.data.schedule import NEVER, Timeline
from octoscale.data.shard_files import ShardFiles
from octoscale.data.verified import VerifiedStore
from octoscale.errors import OctoscaleError

_ABSENT = -1
# What a batch that was just taken needs may still be read.
_MARGIN = 2
# Batches in which room is made at any price.
_SOON = 32
_DISK_RESERVE_BYTES = 64 * 2**20


class ShardCache:
    """Keeps in `files` what is needed soonest, within `budget_bytes`; None keeps everything.

    One process of a node does this for all of them, from the plan alone: it knows when each image is used next.
    To make room it drops the images whose next use is the farthest (Belady's rule). Where few images of a shard are
    left to be used, these stay and the rest of the shard goes.

    Attributes:
        files: what is there.
        timeline: the uses that are planned.
    """

    def __init__(self, source: VerifiedStore, index: Index, files: ShardFiles, budget_bytes: int | None) -> None:
        self.files = files
        self.timeline = Timeline(len(index.manifest.shards))
        self._source = source
        self._budget_bytes = budget_bytes
        self._sizes = np.array([shard.size_bytes for shard in index.manifest.shards], np.int64)
        self._stored = np.array([self.files.stored_bytes(shard) for shard in range(len(self._sizes))], np.int64)
        # The last time up to which everything that is used of a shard is there; NEVER for a whole shard.
        whole = [self.files.whole(shard).exists() for shard in range(len(self._sizes))]
        self._covered = np.where(whole, NEVER, _ABSENT)
        self._reserved_bytes = 0
        self._busy: set[int] = set()
        self._lock = threading.Lock()
        caches.add(self)

    def check_room(self) -> None:
        """Raises where everything is to be kept and the disk is too small for what is missing."""
        free = self._free_bytes()
        missing = int(self._sizes[self._covered != NEVER].sum())
        if self._budget_bytes is None and missing > free:
            raise OctoscaleError(self._full_disk(free))

    def recover_parts(self, now: int) -> None:
        """Take over the parts that an earlier run left, as far as they are still of use; call with the first plan."""
        last = self.timeline.epoch_end(now)
        for shard in np.flatnonzero((self._stored > 0) & (self._covered == _ABSENT)).tolist():
            rows = self.timeline.rows_of(shard, now, last)
            if len(rows) and self.files.holds(shard, rows):
                self._covered[shard] = last
            else:
                self.files.delete(shard)
                self._stored[shard] = 0

    def take_most_urgent(self, now: int) -> tuple[int, int] | None:
        """The shard that lacks something soonest, and when; it belongs to the caller until `fetch` ends."""
        with self._lock:
            after = np.maximum(np.minimum(self._covered, NEVER - 1) + 1, now)
            uses = np.where(self._covered == NEVER, NEVER, self.timeline.next_uses(after))
            uses[list(self._busy)] = NEVER
            shard = int(uses.argmin())
            if uses[shard] == NEVER:
                return None
            self._busy.add(shard)
            return shard, int(uses[shard])

    def fetch(self, shard: int, time: int, now: int) -> bool:
        """Bring what is used of `shard` from `time` to the end of that epoch; False where there is no room for it yet.

        Raises:
            OctoscaleError: it cannot be read, or is damaged where it comes from.
        """
        last = self.timeline.epoch_end(time)
        covered = _ABSENT
        reserved_bytes = 0
        try:
            rows = self.timeline.rows_of(shard, max(0, now - _MARGIN), last)
            rows = np.setdiff1d(rows, self.files.part_rows(shard))
            needed_bytes = sum(end - start for start, end in self._source.ranges(rows))
            whole = self._budget_bytes is None or 2 * needed_bytes > self._sizes[shard]
            if whole:
                needed_bytes = int(self._sizes[shard])
            with self._full_disk_explained():
                if not self._reserve(needed_bytes, time, now):
                    return False
                reserved_bytes = needed_bytes
                if whole:
                    self.keep_whole(shard)
                elif len(rows):
                    self.files.add(shard, self._source.read(shard, rows))
            covered = NEVER if whole else last
        finally:
            with self._lock:
                self._busy.discard(shard)
                self._reserved_bytes -= reserved_bytes
                self._stored[shard] = self.files.stored_bytes(shard)
                if covered != _ABSENT:
                    self._covered[shard] = covered
        return True

    def keep_whole(self, shard: int) -> None:
        """Bring the whole shard, unless it is there."""
        self._source.download(shard, self.files.whole(shard))
        self.files.part(shard).unlink(missing_ok=True)

    def give_up(self) -> None:
        """Let what is being fetched end soon, as a failure."""
        self._source.stop.set()

    @property
    def stored_bytes(self) -> int:
        """What is there of all shards."""
        return int(self._stored.sum())

    @property
    def is_complete(self) -> bool:
        """Whether everything is there, and stays."""
        return self._budget_bytes is None and bool((self._covered == NEVER).all())

    @property
    def is_busy(self) -> bool:
        """Whether something is being fetched."""
        return bool(self._busy)

    def too_small(self, first: int, last: int) -> str:
        """What to say where the budget cannot hold what is needed at times [first, last]."""
        needed = self.timeline.needed_bytes(first, last)
        return (
            f"data.cache_bytes {self._budget_bytes} ({self._free_bytes()} bytes of the disk are free) is too small: "
            f"the next {last - first + 1} batches need "
            f"{int(needed.sum())} bytes of {int((needed > 0).sum())} shards, fetched in shards of up to "
            f"{int(self._sizes.max())} bytes; raise data.cache_bytes, or lower data.window_fraction or "
            "global_batch_size"
        )

    def _free_bytes(self) -> int:
        """What this cache may still take of the disk."""
        return max(0, shutil.disk_usage(self.files.directory).free - _DISK_RESERVE_BYTES)

    def _reserve(self, needed_bytes: int, time: int, now: int) -> bool:
        """Make room for so many bytes that are used at `time`, unless what is there is used sooner."""
        with self._lock:
            free = self._free_bytes() - self._reserved_bytes
            lacking = needed_bytes - free
            if self._budget_bytes is not None:
                used = int(self._stored.sum()) + self._reserved_bytes
                lacking = max(lacking, used + needed_bytes - self._budget_bytes)
                if lacking > 0:
                    lacking -= self._drop(lacking, time, now)
            if lacking > 0 and self._budget_bytes is None:
                raise OctoscaleError(self._full_disk(free))
            if lacking > 0:
                return False
            self._reserved_bytes += needed_bytes
            return True

    def _drop(self, lacking: int, time: int, now: int) -> int:
        """Drop what is used farthest after `time`, at least `lacking` bytes or nothing; the bytes that it gave."""
        first = max(0, now - _MARGIN)
        for last in self._horizons(time, now):
            needed = np.minimum(self.timeline.needed_bytes(first, last), self._stored)
            # Where more than half stays, the work of copying it gives too little.
            gain = np.where(2 * needed <= self._stored, self._stored - needed, 0)
            gain[list(self._busy)] = 0
            if gain.sum() < lacking:
                continue
            given = 0
            # What is dropped as a whole goes first: the rest needs room to be copied to.
            for shard in np.lexsort((-gain, needed > 0)):
                if given >= lacking:
                    break
                if gain[shard]:
                    given += self._keep(int(shard), first, last)
            return given
        return 0

    def _keep(self, shard: int, first: int, last: int) -> int:
        """Drop of `shard` what is not used at [first, last]; the bytes that it gave."""
        before = int(self._stored[shard])
        rows = self.timeline.rows_of(shard, first, last)
        if len(rows):
            self.files.keep_only(shard, rows)
            self._covered[shard] = min(last, self._covered[shard])
        else:
            self.files.delete(shard)
            self._covered[shard] = _ABSENT
        self._stored[shard] = self.files.stored_bytes(shard)
        return before - int(self._stored[shard])

    def _horizons(self, time: int, now: int) -> Iterator[int]:
        """Times beyond which images may be dropped for what is used at `time`, the farthest first.

        What is due soon may drive out all that is used later; what has time, only what is used as much later again.
        Else the shards at the end of what fits would drive out parts of each other, and be read many times.
        """
        soon = max(now, time) - now <= _SOON
        nearest = time if soon else 2 * time - now
        end = self.timeline.epoch_end(max(now, time))
        yield self.timeline.end
        if end < nearest:
            return
        yield end
        span = end - nearest
        while span > 0:
            span //= 2
            yield nearest + span

    @contextmanager
    def _full_disk_explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, OctoscaleError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OctoscaleError(self._full_disk(self._free_bytes())) from error
            raise

    def _full_disk(self, free_bytes: int) -> str:
        return (
            f"the disk of the cache {self.files.directory.parent} is full: {self._source.store.url} has "
            f"{self._sizes.sum() / 2**30:.1f} GiB, {free_bytes / 2**30:.1f} GiB are free; choose another "
            "data.cache_dir, or set data.mode=windowed and data.cache_bytes"
        )


# Those of this process, for others to poll.
caches: WeakSet[ShardCache] = WeakSet()
