"""Any table of pairs: CSV, tabs, or spaces.

Columns: first image, second image, label, and perhaps the fold. The label is 1, true, yes or genuine for genuine
pairs, 0, -1, false, no or impostor for impostor pairs. A first line whose third field is no label is a heading.
Without folds the pairs are cut into ten, see `balanced_folds`.
"""

import csv

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.images import without_suffix
from octoscale.evaluate.protocols.pairs import Listed, Pairs, collect
from octoscale.evaluate.protocols.text import read_lines

_LABELS = dict.fromkeys(("1", "true", "yes", "genuine"), True) | dict.fromkeys(
    ("0", "-1", "false", "no", "impostor"), False
)
_FORM = "expected FIRST, SECOND, LABEL (1 or 0) and perhaps FOLD"


def read_table(path: str, storage: StorageConfig = DEFAULT) -> Pairs:
    """Read a table of pairs.

    Args:
        path: a local path or URL.
        storage: how it is reached.

    Raises:
        OctoscaleError: the file cannot be read, or a line is malformed: its number and what was expected.
    """
    lines = read_lines(path, storage)
    listed, folds = [], []
    for number, line in enumerate(lines, start=1):
        fields = _split(line)
        if not fields or (number == 1 and len(fields) >= 3 and fields[2].lower() not in _LABELS):
            continue
        where = f"line {number} of {path}"
        match fields:
            case [first, second, label, *fold] if first and second and label.lower() in _LABELS and len(fold) <= 1:
                listed.append(Listed(without_suffix(first), without_suffix(second), _LABELS[label.lower()], where))
                folds.append(fold[0] if fold else None)
            case _:
                raise OctoscaleError(f"{where} is {line!r}; {_FORM}")
    named = {fold for fold in folds if fold is not None}
    if not named:
        return collect(listed, path)
    if None in folds or len(named) < 2:
        line = listed[folds.index(None)].where if None in folds else path
        raise OctoscaleError(f"{line} has {'no' if None in folds else 'only one'} fold; {_FORM}, for every pair")
    # In the order in which they come up: folds may be numbers or names.
    numbers = {fold: place for place, fold in enumerate(dict.fromkeys(folds))}
    return collect(listed, path, [numbers[fold] for fold in folds])


def _split(line: str) -> list[str]:
    if "\t" in line or "," in line:
        line_fields = next(csv.reader([line], delimiter="\t" if "\t" in line else ","), [])
        return [field.strip() for field in line_fields]
    return line.split()
