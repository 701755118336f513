"""PyTorch's zip archives: their parts by name, read without running anything that is in them."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from octoscale.errors import OctoscaleError


class Archive:
    """The parts of an archive under the one folder that holds them all, as PyTorch writes it."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self._root = file.namelist()[0].partition("/")[0]
        self.sizes = {entry.filename.removeprefix(f"{self._root}/"): entry.file_size for entry in file.infolist()}

    @property
    def is_regular(self) -> bool:
        """Whether each part is there once, under the one folder: others who read it then find the same parts."""
        names = self._file.namelist()
        return len(set(names)) == len(names) and all(name.startswith(f"{self._root}/") for name in names)

    def read(self, name: str) -> bytes:
        return self._file.read(f"{self._root}/{name}")

    def text(self, name: str) -> str | None:
        """None: no such part."""
        return self.read(name).decode() if name in self.sizes else None

    def bytes_under(self, prefix: str) -> int:
        return sum(size for name, size in self.sizes.items() if name.startswith(prefix))


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Raises OctoscaleError for a file that is no such archive, or a damaged one."""
    try:
        with zipfile.ZipFile(path) as file:
            if not file.namelist():
                raise zipfile.BadZipFile("it is empty")
            yield Archive(file)
    # What zipfile, json and the look-ups in what they give raise for nonsense.
    except (zipfile.BadZipFile, OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise OctoscaleError(f"{path} is not a readable {path.suffix} graph ({error}); export it again") from error
