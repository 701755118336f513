"""The shards of a remote data set on this node's disk: fetched when they are due, dropped when they are not."""

import errno
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from octoscale.data.index import Index, file_sha256
from octoscale.data.schedule import NEVER, Timeline
from octoscale.data.shard_files import ShardFiles
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

logger = logging.getLogger(__name__)

_ABSENT = -1
# A request costs about as much as this many bytes more: 1.6 ms of a core.
_GAP_BYTES = 128 * 2**10
# Wrong bytes are fetched again; they may have been spoilt on the way.
_ATTEMPTS = 3
# Another rank may be this many batches behind.
_MARGIN = 2
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

    def __init__(self, store: Store, index: Index, files: ShardFiles, budget_bytes: int | None) -> None:
        self.files = files
        self.timeline = Timeline(len(index.manifest.shards))
        self._store = store
        self._index = index
        self._budget_bytes = budget_bytes
        self._sizes = np.array([shard.size_bytes for shard in index.manifest.shards], np.int64)
        self._stored = np.array([self.files.stored_bytes(shard) for shard in range(len(self._sizes))], np.int64)
        # The last time up to which everything that is used of a shard is there; NEVER for a whole shard.
        whole = [self.files.whole(shard).exists() for shard in range(len(self._sizes))]
        self._covered = np.where(whole, NEVER, _ABSENT)
        self._sweep()
        self._reserved_bytes = 0
        self._busy: set[int] = set()
        self._lock = threading.Lock()

    def check_room(self) -> None:
        """Raises where everything is to be kept and the disk is too small for what is missing."""
        free = self._free_bytes()
        missing = int(self._sizes[self._covered != NEVER].sum())
        if self._budget_bytes is None and missing > free:
            raise OctoscaleError(self._full_disk(free))

    def recover_parts(self, now: int) -> None:
        """Take over the parts that an earlier run left, as far as they are still of use; call with the first plan."""
        last = self.timeline.epoch_end(now)
        for shard in np.flatnonzero((self._stored > 0) & (self._covered == _ABSENT)):
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
        needed_bytes = 0
        try:
            rows = self.timeline.rows_of(shard, max(0, now - _MARGIN), last)
            rows = np.setdiff1d(rows, self.files.part_rows(shard))
            ranges = self._ranges(rows)
            needed_bytes = sum(end - start for start, end in ranges)
            whole = self._budget_bytes is None or 2 * needed_bytes > self._sizes[shard]
            if whole:
                needed_bytes = int(self._sizes[shard])
            if not self._reserve(needed_bytes, time, now):
                needed_bytes = 0
                return False
            if whole:
                self.fetch_whole(shard)
            elif len(rows):
                self.files.add(shard, self._fetch_rows(shard, rows, ranges))
            covered = NEVER if whole else last
        finally:
            with self._lock:
                self._busy.discard(shard)
                self._reserved_bytes -= needed_bytes
                self._stored[shard] = self.files.stored_bytes(shard)
                if covered != _ABSENT:
                    self._covered[shard] = covered
        return True

    def give_back(self, shard: int) -> None:
        """What `take_most_urgent` gave is not fetched now."""
        with self._lock:
            self._busy.discard(shard)

    @property
    def keeps_everything(self) -> bool:
        """Whether nothing is ever dropped."""
        return self._budget_bytes is None

    @property
    def is_busy(self) -> bool:
        """Whether something is being fetched."""
        return bool(self._busy)

    def too_small(self, first: int, last: int) -> str:
        """What to say where the budget cannot hold what is needed at times [first, last]."""
        needed = int(self.timeline.needed_bytes(first, last).sum())
        shards = int((self.timeline.needed_bytes(first, last) > 0).sum())
        return (
            f"data.cache_bytes {self._budget_bytes} is too small: the next {last - first + 1} batches need {needed} bytes "
            f"of {shards} shards, fetched in shards of up to {int(self._sizes.max())} bytes; raise data.cache_bytes, or "
            "lower data.window_fraction or global_batch_size"
        )

    def fetch_whole(self, shard: int) -> None:
        """Download the shard unless another process of this node just did; it appears when it is whole and verified."""
        path = self.files.whole(shard)
        entry = self._index.manifest.shards[shard]
        with _alone(path.with_name(f"{path.name}.partial")) as temporary:
            if path.exists():
                return
            for attempt in range(_ATTEMPTS):
                try:
                    self._store.download(entry.name, temporary, entry.size_bytes)
                except OctoscaleError as error:
                    raise self._explained(error) from error
                if file_sha256(temporary) == entry.sha256:
                    break
                logger.warning("%s/%s came with wrong bytes, attempt %d", self._store.url, entry.name, attempt + 1)
            else:
                raise OctoscaleError(self._damage(shard, temporary))
            temporary.replace(path)
        self.files.part(shard).unlink(missing_ok=True)

    def _free_bytes(self) -> int:
        """What this cache may still take of the disk."""
        return max(0, shutil.disk_usage(self.files.directory).free - _DISK_RESERVE_BYTES)

    def _sweep(self) -> None:
        """Delete what killed processes left half."""
        for path in {self.files.whole(shard).parent for shard in range(len(self._sizes))}:
            for temporary in path.glob("*.partial"):
                with suppress(OSError), temporary.open("rb") as file:
                    flock(file, LOCK_EX | LOCK_NB)
                    temporary.unlink()

    def _reserve(self, needed_bytes: int, time: int, now: int) -> bool:
        """Make room for so many bytes that are used at `time`, unless what is there is used sooner."""
        with self._lock:
            free = self._free_bytes()
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
            before = int(self._stored.sum())
            for shard in np.argsort(-gain, kind="stable"):
                if before - int(self._stored.sum()) >= lacking or not gain[shard]:
                    break
                self._keep(int(shard), first, last)
            return before - int(self._stored.sum())
        return 0

    def _keep(self, shard: int, first: int, last: int) -> None:
        rows = self.timeline.rows_of(shard, first, last)
        if len(rows):
            self.files.keep_only(shard, rows)
            self._covered[shard] = min(last, self._covered[shard])
        else:
            self.files.delete(shard)
            self._covered[shard] = _ABSENT
        self._stored[shard] = self.files.stored_bytes(shard)

    def _horizons(self, time: int, now: int) -> Iterator[int]:
        """Times beyond which images may be dropped, the farthest first, down to `time`."""
        end = self.timeline.epoch_end(max(now, time))
        yield self.timeline.end
        yield end
        span = end - time
        while span > 0:
            span //= 2
            yield time + span

    def _ranges(self, rows: NDArray[np.integer]) -> list[tuple[int, int]]:
        """Byte ranges of one shard that hold these images, close ones joined; ascending."""
        ranges: list[tuple[int, int]] = []
        for row in rows[np.argsort(self._index.offsets[rows])]:
            start = int(self._index.offsets[row])
            end = start + int(self._index.sizes[row])
            if ranges and start - ranges[-1][1] <= _GAP_BYTES:
                ranges[-1] = ranges[-1][0], end
            else:
                ranges.append((start, end))
        return ranges

    def _fetch_rows(self, shard: int, rows: NDArray[np.integer], ranges: list[tuple[int, int]]) -> dict[int, bytes]:
        name = self._index.manifest.shards[shard].name
        starts = np.array([start for start, _ in ranges])
        for _ in range(_ATTEMPTS):
            parts = self._store.read_ranges(name, ranges)
            images = {}
            for row in rows:
                part = int(np.searchsorted(starts, self._index.offsets[row], side="right")) - 1
                place = int(self._index.offsets[row] - starts[part])
                images[int(row)] = parts[part][place : place + int(self._index.sizes[row])]
            wrong = [row for row, data in images.items() if zlib.crc32(data) != self._index.crc32[row]]
            if not wrong:
                return images
            logger.warning("%s/%s came with wrong bytes of sample %d", self._store.url, name, wrong[0])
        raise OctoscaleError(
            f"sample {wrong[0]} at byte {self._index.offsets[wrong[0]]} of {self._store.url}/{name} is not what was "
            "packed (crc32 differs); restore the shard or pack the data set again"
        )

    def _damage(self, shard: int, path: Path) -> str:
        """Where the file at `path` differs from what was packed."""
        entry = self._index.manifest.shards[shard]
        message = f"{self._store.url}/{entry.name} is damaged (its sha256 is not the manifest's)"
        rows = np.flatnonzero(self._index.shard_ids == shard)
        with path.open("rb") as file:
            for row in rows[np.argsort(self._index.offsets[rows])]:
                file.seek(int(self._index.offsets[row]))
                if zlib.crc32(file.read(int(self._index.sizes[row]))) != self._index.crc32[row]:
                    message += f", first in sample {row} at byte {self._index.offsets[row]}"
                    break
        return f"{message}; restore it or pack the data set again"

    def _explained(self, error: OctoscaleError) -> OctoscaleError:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return OctoscaleError(self._full_disk(self._free_bytes()))
        return error

    def _full_disk(self, free_bytes: int) -> str:
        return (
            f"the disk of the cache {self.files.directory.parent} is full: {self._store.url} has "
            f"{self._sizes.sum() / 2**30:.1f} GiB, {free_bytes / 2**30:.1f} GiB are free; choose another "
            "data.cache_dir, or set data.mode=windowed and data.cache_bytes"
        )


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """Hold the temporary file `path`, alone among processes; it is gone afterwards, renamed or deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _locked(path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _locked(path: Path) -> IO[bytes]:
    while True:
        file = path.open("ab")
        flock(file, LOCK_EX)
        # Whoever had it before has renamed or deleted it: then this is another file now.
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
        file.close()
