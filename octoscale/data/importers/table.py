"""Tables with a row per image: CSV, and Parquet through pyarrow."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from octoscale.data.importers.entries import Entries
from octoscale.data.importers.paths import store_and_name
from octoscale.data.importers.source import FileSource
from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError

# All of them or none.
LANDMARK_COLUMNS = tuple(f"{axis}{point}" for point in range(1, 6) for axis in "xy")


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say what."""

    path: str = "path"
    identity: str = "identity"


def open_table(
    url: str, columns: Columns, root: str | None = None, storage: StorageConfig = DEFAULT, *, parquet: bool
) -> FileSource:
    """The images that a table names; landmarks are in the columns x1, y1, … x5, y5, if it has them.

    Args:
        root: the folder that paths are relative to; by default the table's own.

    Raises:
        OctoscaleError: the table cannot be read, has no such columns, or a row that cannot be meant.
    """
    folder, name = store_and_name(url, storage)
    data = folder.read(name)
    rows = _parquet_rows(data, url, columns) if parquet else _csv_rows(data, url, columns)
    entries = Entries(url, folder if root is None else Store(root, storage))
    for where, (path, identity, *landmarks) in rows:
        if path is None or identity is None:
            raise OctoscaleError(f"{where} has an empty {columns.path!r} or {columns.identity!r}")
        entries.add(str(path), str(identity), landmarks, where)
    return entries.source()


def _wanted(present: Sequence[str], url: str, columns: Columns) -> list[str]:
    """The columns to read, of those that are there."""
    missing = [name for name in (columns.path, columns.identity) if name not in present]
    if missing:
        raise OctoscaleError(
            f"{url} has no column {' and no column '.join(map(repr, missing))}, only {', '.join(map(repr, present))}; "
            "choose with --path-column and --identity-column"
        )
    landmarks = [name for name in LANDMARK_COLUMNS if name in present]
    if landmarks and len(landmarks) != len(LANDMARK_COLUMNS):
        raise OctoscaleError(f"{url} has only some of the landmark columns x1, y1, … x5, y5: {', '.join(landmarks)}")
    return [columns.path, columns.identity, *landmarks]


def _csv_rows(data: bytes, url: str, columns: Columns) -> Iterator[tuple[str, list[Any]]]:
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")
    reader = csv.reader(text, delimiter="\t" if url.endswith(".tsv") else ",", strict=True)
    try:
        header = next(reader, [])
        places = [header.index(name) for name in _wanted(header, url, columns)]
        for row in reader:
            if not row:
                continue
            where = f"line {reader.line_num} of {url}"
            if len(row) != len(header):
                raise OctoscaleError(f"{where} has {len(row)} fields, its first line {len(header)}")
            yield where, [row[place] for place in places]
    except (csv.Error, UnicodeDecodeError) as error:
        raise OctoscaleError(f"line {reader.line_num + 1} of {url} is not readable as CSV: {error}") from error


def _parquet_rows(data: bytes, url: str, columns: Columns) -> Iterator[tuple[str, list[Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise OctoscaleError(f"{url} needs a package that is not installed: pip install octoscale[parquet]") from error
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        wanted = _wanted(file.schema_arrow.names, url, columns)
        number = 0
        for batch in file.iter_batches(columns=wanted):
            for row in zip(*(batch.column(name).to_pylist() for name in wanted), strict=True):
                number += 1
                yield f"row {number} of {url}", list(row)
    except (pyarrow.ArrowException, OSError) as error:
        raise OctoscaleError(f"{url} is not readable as Parquet: {error}") from error
