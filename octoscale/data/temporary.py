"""Files that appear when they are whole: a temporary one beside each, held by its writer, swept if that was killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

from octoscale.errors import OctoscaleError

_SUFFIX = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write to, alone among processes; it takes the place of `path` when the block ends well, else it goes.

    A process that waited finds in `path` what the one before it wrote.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}{_SUFFIX}")
    with locked(temporary):
        try:
            yield temporary
            if temporary.exists():
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that a user asked for, open to be written: it takes the place of `path` when the block ends well.

    What is no ordinary file, as /dev/stdout, is written to as it is.

    Raises:
        OctoscaleError: it cannot be written; what was there stays.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
        else:
            with replacing(path) as temporary, temporary.open("wb") as file:
                yield file
    except OSError as error:
        raise OctoscaleError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def sweep(folder: Path) -> None:
    """Delete what killed processes left half in `folder`, but nothing that is under way."""
    for temporary in folder.glob(f"*{_SUFFIX}"):
        delete_unless_locked(temporary)


def delete_unless_locked(path: Path) -> None:
    """Delete a file that no process holds."""
    with suppress(OSError), path.open("rb") as file:
        flock(file, LOCK_EX | LOCK_NB)
        path.unlink()


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the file `path`, which the kernel releases even if this process is killed; False: another holds it."""
    while True:
        with path.open("ab") as file:
            try:
                flock(file, LOCK_EX | (0 if wait else LOCK_NB))
            except BlockingIOError:
                yield False
                return
            # Whoever had it before may have renamed or deleted it: then others lock a new one.
            if _is_still(path, file.fileno()):
                yield True
                return


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
