"""Who uses a cache folder: many runs that keep everything, or one that drops shards."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import IO

from octoscale.data.temporary import delete_unless_locked, sweep
from octoscale.errors import OctoscaleError

_TAKE_OVER_SECONDS = 30.0
_STALE_SECONDS = 3600.0


class Lease:
    """The right to keep shards in `directory`, alone (`exclusive`) or with others; until it is closed.

    Raises:
        OctoscaleError: another run has it, and does not end within half a minute.
    """

    def __init__(self, directory: Path, *, exclusive: bool) -> None:
        self._file = _locked(directory, exclusive)
        # What killed processes left: nothing of it is under way when its lock is free.
        for folder in {path.parent for path in directory.rglob("*.partial")}:
            sweep(folder)
        for path in directory.glob("fetching-*"):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                delete_unless_locked(path)

    def close(self) -> None:
        self._file.close()


@contextmanager
def shared(directory: Path) -> Iterator[None]:
    """Nothing is dropped from `directory` while the block runs."""
    lease = Lease(directory, exclusive=False)
    try:
        yield
    finally:
        lease.close()


def _locked(directory: Path, exclusive: bool) -> IO[bytes]:
    file = (directory / "in-use.lock").open("ab")
    deadline = time.monotonic() + _TAKE_OVER_SECONDS
    while True:
        try:
            flock(file, (LOCK_EX if exclusive else LOCK_SH) | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise OctoscaleError(
                    f"another run uses the cache {directory}, and a run with data.mode=windowed drops shards from it: "
                    "give this run a data.cache_dir of its own"
                ) from None
            # The processes of an attempt that just ended may take a moment to go.
            time.sleep(0.2)
        else:
            return file
