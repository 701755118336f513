"""Any table of pairs: CSV, tabs, or spaces.

Columns: first image, second image, label, and perhaps the fold. The label is 1, true, yes or genuine for genuine
pairs, 0, -1, false, no or impostor for impostor pairs. The first line is a heading if its third field is the name of
such a column (label, same, is_same, match …). Without folds the pairs are cut into ten, see `balanced_folds`.
"""

import re

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.images import without_suffix
from octoscale.evaluate.protocols.pairs import Listed, Pairs, collect
from octoscale.evaluate.protocols.text import fields_of, read_lines

_LABELS = dict.fromkeys(("1", "1.0", "true", "yes", "genuine"), True) | dict.fromkeys(
    ("0", "0.0", "-1", "-1.0", "false", "no", "impostor"), False
)
# Any other word may be a mistyped label: taken for a heading, its pair would be missing without a word.
_HEADING = re.compile(r"(?i)(is)?[ _-]?(label|same|match|genuine|target|class|kind|truth|y)(ed|es|s|ing)?([ _-].*)?")
_FORM = "expected FIRST, SECOND, LABEL (1 or 0) and perhaps FOLD; or on line 1 a heading, its third word label or same"


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
        where = f"line {number} of {path}"
        fields = fields_of(line, where)
        if not fields or (number == 1 and len(fields) >= 3 and _is_heading(fields[2])):
            continue
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


def _is_heading(field: str) -> bool:
    return field.lower() not in _LABELS and _HEADING.fullmatch(field) is not None
