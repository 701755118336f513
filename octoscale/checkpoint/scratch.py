"""Temporary folders that a killed process does not leave behind for good."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

# Between making a folder and holding it.
_GRACE_SECONDS = 60


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A new temporary folder, held by this process; those of the prefix that nobody holds any more are deleted."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        folder = Path(name)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            flock(descriptor, LOCK_EX)
            _sweep(folder.parent, prefix)
            yield folder
        finally:
            os.close(descriptor)


def _sweep(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*"):
        # Not ours to open: another user's.
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < _GRACE_SECONDS:
                continue
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)
