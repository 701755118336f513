"""List files: ``PATH LABEL`` on every line, perhaps followed by ten landmark numbers."""

import io

from octoscale.data.importers.entries import LANDMARK_NUMBERS, Entries
from octoscale.data.importers.paths import store_and_name
from octoscale.data.importers.source import FileSource
from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FORM = "expected PATH LABEL, or PATH LABEL x1 y1 x2 y2 x3 y3 x4 y4 x5 y5, with spaces or (if names have spaces) tabs"


def open_list(url: str, root: str | None = None, storage: StorageConfig = DEFAULT) -> FileSource:
    """The images that a list file names. Fields are divided by tabs where the line has one, else by spaces.

    Args:
        root: the folder that paths are relative to; by default the list's own.

    Raises:
        OctoscaleError: the list cannot be read, or a line of it, with its number.
    """
    folder, name = store_and_name(url, storage)
    entries = Entries(url, folder if root is None else Store(root, storage))
    # Line by line: millions of lines at once take gigabytes.
    for number, raw in enumerate(io.BytesIO(folder.read(name).removeprefix(_BYTE_ORDER_MARK)), start=1):
        where = f"line {number} of {url}"
        try:
            line = raw.rstrip(b"\r\n").decode()
        except UnicodeDecodeError as error:
            raise OctoscaleError(f"{where} is not UTF-8 text: {error}") from error
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
        if len(fields) not in (2, 2 + LANDMARK_NUMBERS):
            raise OctoscaleError(f"{where} has {len(fields)} fields: {line[:80]!r}; {_FORM}")
        entries.add(fields[0], fields[1], fields[2:], where)
    return entries.source()
