"""The objects of a local folder. One writer's unfinished file is never seen by a reader."""

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from octoscale.data.objects import Head, Part

_TEMPORARY = re.compile(r"(^|/)\.[^/]+\.[0-9a-f]{32}\.partial$")


class LocalObjects:
    """`Objects` whose paths are local; the time limits mean nothing here."""

    def head(self, path: str, seconds: float) -> Head:
        with _no_such_parent():
            return Head(Path(path).stat().st_size)

    def is_folder(self, path: str, seconds: float) -> bool:
        return Path(path).is_dir()

    def get(self, path: str, start: int, end: int | None, seconds: float) -> Part:
        with Path(path).open("rb") as file:
            file.seek(start)
            return Part(file.read(-1 if end is None else end - start))

    def put(self, path: str, data: bytes, exclusive: bool, seconds: float) -> None:
        with _temporary(Path(path), exclusive) as temporary:
            temporary.write_bytes(data)

    def put_file(self, path: str, local_path: Path, seconds: float) -> None:
        with _temporary(Path(path), exclusive=False) as temporary:
            shutil.copyfile(local_path, temporary)

    def page(self, path: str, after: str | None, seconds: float) -> tuple[list[str], str | None]:
        walk = os.walk(path, followlinks=True, onerror=_raise_unless_missing)
        paths = (Path(parent, file).as_posix() for parent, _, files in walk for file in files)
        return [found for found in paths if not _TEMPORARY.search(found)], None

    def delete(self, paths: Sequence[str], seconds: float) -> None:
        for path in map(Path, paths):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def _temporary(path: Path, exclusive: bool) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(f"{path.parent} is a file, not a folder") from error
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if exclusive:
            os.link(temporary, path)  # Unlike replace(), refuses an existing name, atomically.
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _no_such_parent() -> Iterator[None]:
    """A path below a file is as absent as any other."""
    try:
        yield
    except NotADirectoryError as error:
        raise FileNotFoundError(str(error)) from error


def _raise_unless_missing(error: OSError) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        raise error
