"""Shards ahead of their use: one process of a node fetches them, all wait for what they read."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from octoscale.data.cache import ShardCache
from octoscale.data.index import Index
from octoscale.data.lease import Lease
from octoscale.data.schedule import NEVER, EpochUses
from octoscale.data.shard_files import ShardFiles
from octoscale.errors import OctoscaleError

_POLL_SECONDS = 0.02
_THREADS = 4
_STUCK_TRIES = 5
# For others to poll, as `octoscale.data.retry.counters`: shards that a batch found there (hit) or waited for (miss).
cache_lookups: Counter[str] = Counter()
# Batches that a loader keeps ready, beyond the one that is trained on.
READY_BATCHES = 4


class Arrivals(Protocol):
    """Knows when the images of a batch can be read. Times count the batches of all epochs from the start of the run."""

    def plan(self, plan: NDArray[np.integer], start: int) -> None:
        """The plan of an epoch, int [batches, B], whose first batch is at time `start`; epochs come in order."""

    def wait_for(self, rows: NDArray[np.integer], given_up: Callable[[], bool]) -> None:
        """Return when the images `rows` are there, or are not wanted any more.

        Raises:
            OctoscaleError: they cannot be had.
        """

    def consumed(self, now: int) -> None:
        """All batches before time `now` have been read."""

    def close(self) -> None:
        """Stop fetching."""


class Everything:
    """Of a data set that is on this node's disk as a whole."""

    def plan(self, plan: NDArray[np.integer], start: int) -> None:
        pass

    def wait_for(self, rows: NDArray[np.integer], given_up: Callable[[], bool]) -> None:
        pass

    def consumed(self, now: int) -> None:
        pass

    def close(self) -> None:
        pass


class Fetcher:
    """Fetches for all ranks of this node, the soonest needed first, in a few threads."""

    def __init__(
        self, cache: ShardCache, lease: Lease, index: Index, columns: Sequence[slice], *,
        start: int, ahead: int, lock: Path,
    ) -> None:  # fmt: skip
        """Starts with the first plan.

        Args:
            lease: of the cache's folder, taken before the cache looked at it; closed with this.
            columns: which part of each global batch each of this node's ranks reads; this process is the first.
            start: the first time to come.
            ahead: so many batches are read at a time; the cache must hold what they need together.
            lock: a file that is held locked while this process lives.
        """
        self._cache = cache
        self._index = index
        self._columns = columns
        self._positions = Positions.create(lock, [start] * len(columns))
        self._ahead = ahead
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._started = self._closed = False
        self._lock_path = lock
        self._alive = lock.open("w")
        flock(self._alive, LOCK_EX)
        self._lease = lease
        self._pending: list[tuple[NDArray[np.integer], int]] = []
        self._planning = threading.Lock()
        self._recovered = False
        self._threads = [threading.Thread(target=self._run, name=f"fetch-{n}", daemon=True) for n in range(_THREADS)]

    def plan(self, plan: NDArray[np.integer], start: int) -> None:
        self._check()
        with self._changed:
            self._pending.append((plan, start))
            if not self._started:
                self._started = True
                for thread in self._threads:
                    thread.start()
            self._changed.notify_all()

    def wait_for(self, rows: NDArray[np.integer], given_up: Callable[[], bool]) -> None:
        _wait_until_held(self._cache.files, self._index, rows, given_up, self._check)

    def consumed(self, now: int) -> None:
        self._positions.tell(0, now)
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._cache.give_up()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._lease.close()
        self._alive.close()
        self._lock_path.unlink(missing_ok=True)
        self._positions.delete()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            stuck = 0
            while not self._closed:
                self._take_plans()
                now = self._positions.slowest()
                task = self._cache.take_most_urgent(now)
                if task is not None and self._cache.fetch(*task, now):
                    stuck = 0
                    continue
                # Where what is due has no room, and that stays so while no other thread is about to make or take some.
                due = task is not None and task[1] <= now + self._ahead
                stuck = stuck + 1 if due and not self._cache.is_busy and now == self._positions.slowest() else 0
                if stuck == _STUCK_TRIES:
                    raise OctoscaleError(self._cache.too_small(now, now + self._ahead))
                self._stand_by()
        except BaseException as error:
            with self._changed:
                # What another thread has told is being read: the file must not be empty again for a moment.
                if self._error is not None:
                    return
                self._error = error
                self._closed = True
                # The other ranks are to end too: this one may be waiting for them.
                with suppress(OSError):
                    # On a disk that is full they learn that it has ended, not why.
                    self._lock_path.write_text(str(error))
                flock(self._alive, LOCK_UN)

    def _take_plans(self) -> None:
        """Turn the plans that have come around; the loader, which brings them, does not wait for it."""
        with self._planning:
            while self._pending:
                plan, start = self._pending[0]
                if self._cache.is_complete:
                    self._pending.pop(0)
                    continue
                mine = np.concatenate([plan[:, columns] for columns in self._columns], axis=1)
                self._cache.timeline.append(EpochUses(self._index, mine, start))
                self._cache.timeline.forget_before(self._positions.slowest())
                if not self._recovered:
                    self._recovered = True
                    self._cache.recover_parts(self._positions.slowest())
                self._pending.pop(0)

    def _stand_by(self) -> None:
        """Nothing to fetch, or no room for it: wait for the batches to go on."""
        with self._changed:
            if not (self._closed or self._pending):
                self._changed.wait(timeout=0.2)


class Positions:
    """How far each rank of the node has read: a few numbers in a file that all of them map."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._times: NDArray[np.int64] = np.load(path, mmap_mode="r+")

    @classmethod
    def create(cls, lock: Path, times: list[int]) -> "Positions":
        """Beside the fetching process's lock file."""
        path = lock.with_suffix(".npy")
        np.save(path, np.array(times, np.int64))
        return cls(path)

    @classmethod
    def open(cls, lock: Path) -> "Positions":
        return cls(lock.with_suffix(".npy"))

    def tell(self, number: int, time: int) -> None:
        """All batches before `time` have been read by the node's rank `number`."""
        self._times[number] = time

    def slowest(self) -> int:
        """No rank needs a batch before this time any more."""
        return int(self._times.min())

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)


class Follower:
    """Waits for what another process of this node fetches."""

    def __init__(self, files: ShardFiles, index: Index, lock: Path, number: int) -> None:
        """`lock`: the file that the fetching process holds locked; `number`: which of the node's ranks this is."""
        self._files = files
        self._index = index
        self._lock = lock
        self._number = number
        self._positions: Positions | None = None

    def plan(self, plan: NDArray[np.integer], start: int) -> None:
        pass

    def wait_for(self, rows: NDArray[np.integer], given_up: Callable[[], bool]) -> None:
        _wait_until_held(self._files, self._index, rows, given_up, self._check)

    def consumed(self, now: int) -> None:
        if self._positions is None:
            self._positions = Positions.open(self._lock)
        self._positions.tell(self._number, now)

    def close(self) -> None:
        if self._positions is not None:
            # Nothing is kept for a rank that reads no more.
            self._positions.tell(self._number, NEVER)

    def _check(self) -> None:
        try:
            with self._lock.open() as file:
                flock(file, LOCK_SH | LOCK_NB)
                problem = file.read()
        except BlockingIOError:
            return
        except FileNotFoundError:
            problem = ""
        problem = problem or "it was killed, or another rank's error ended it"
        raise OctoscaleError(f"the process that fetches shards for this node has ended: {problem}")


def _wait_until_held(
    files: ShardFiles,
    index: Index,
    rows: NDArray[np.integer],
    given_up: Callable[[], bool],
    check: Callable[[], None],
) -> None:
    """Return when `files` hold the images `rows` or they are given up; `check` raises where that will never be."""
    shards = index.shard_ids[rows]
    for shard in np.unique(shards):
        needed = rows[shards == shard]
        cache_lookups["hit" if files.holds(int(shard), needed) else "miss"] += 1
        while not files.holds(int(shard), needed):
            if given_up():
                return
            check()
            time.sleep(_POLL_SECONDS)
