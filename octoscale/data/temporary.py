"""Files that appear when they are whole: a temporary one beside each, held by its writer, swept if that was killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

_SUFFIX = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write to, alone among processes; it takes the place of `path` when the block ends well, else it goes.

    A process that waited finds in `path` what the one before it wrote.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}{_SUFFIX}")
    file = _locked(temporary)
    try:
        yield temporary
        if temporary.exists():
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        file.close()


def sweep(folder: Path) -> None:
    """Delete what killed processes left half in `folder`, but nothing that is under way."""
    for temporary in folder.glob(f"*{_SUFFIX}"):
        delete_unless_locked(temporary)


def delete_unless_locked(path: Path) -> None:
    """Delete a file that no process holds."""
    with suppress(OSError), path.open("rb") as file:
        flock(file, LOCK_EX | LOCK_NB)
        path.unlink()


def _locked(path: Path) -> IO[bytes]:
    while True:
        file = path.open("ab")
        flock(file, LOCK_EX)
        # Whoever had it before has renamed or deleted it: then this is another file now.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()
