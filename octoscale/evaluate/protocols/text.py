"""Lists as lines of text."""

import csv

from octoscale.data.importers.paths import store_and_name
from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError


def read_lines(path: str, storage: StorageConfig = DEFAULT) -> list[str]:
    """The lines of a UTF-8 text, without their ends and without empty lines at its end.

    Args:
        path: a local path or URL.
        storage: how it is reached.

    Raises:
        OctoscaleError: the file cannot be read, or is not text.
    """
    store, name = store_and_name(path, storage)
    try:
        return store.read(name).decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise OctoscaleError(f"{path} is not UTF-8 text: {error}; give the list of pairs itself") from error


def fields_of(line: str, where: str) -> list[str]:
    """The fields of a line with commas, tabs or spaces between them; none in an empty one.

    Raises:
        OctoscaleError: not a line of a table; `where` is named.
    """
    if "\t" not in line and "," not in line:
        return line.split()
    try:
        fields = next(csv.reader([line], delimiter="\t" if "\t" in line else ",", strict=True), [])
    except csv.Error as error:
        raise OctoscaleError(f"{where} is {line[:80]!r}, which is no line of a table: {error}") from error
    return [field.strip() for field in fields]


def two_by_two(lines: list[str], path: str) -> list[tuple[int, str, str]]:
    """The lines two by two, with the number of the first from 1.

    Raises:
        OctoscaleError: an odd number of lines.
    """
    if len(lines) % 2:
        raise OctoscaleError(f"{path} has {len(lines)} lines; a pair takes two, so one is missing")
    return [(number + 1, lines[number], lines[number + 1]) for number in range(0, len(lines), 2)]
