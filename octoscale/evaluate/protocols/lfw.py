"""LFW's ``pairs.txt``, and XQLFW's ``xqlfw_pairs.txt``, which has the same form.

The first line holds the number of folds and n; with one fold, n alone. Fields are separated by tabs; in copies of the
list also by spaces, which is told by a line that has no tab. Empty lines count for nothing. Each fold has
n genuine lines ``NAME  i  j``, then n impostor lines ``NAME_A  i  NAME_B  j``. Image i of NAME is
``NAME/NAME_000i.jpg``.
"""

import numpy as np

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.pairs import Listed, Pairs, collect
from octoscale.evaluate.protocols.text import read_lines

_DIGITS = 9


def read_lfw(path: str, storage: StorageConfig = DEFAULT) -> Pairs:
    """Read a list of pairs in LFW's form.

    Args:
        path: a local path or URL.
        storage: how it is reached.

    Raises:
        OctoscaleError: the file cannot be read, or a line is malformed: its number and what was expected.
    """
    lines = read_lines(path, storage)
    folds, per_kind = _read_header(path, lines[0] if lines else "")
    numbered = [(number, line) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    if len(numbered) != 2 * folds * per_kind:
        raise OctoscaleError(
            f"{path} has {len(numbered)} lines after the first; its first line {lines[0]!r} promises "
            f"{2 * folds * per_kind}: {folds} × ({per_kind} genuine + {per_kind} impostor pairs)"
        )
    same = np.tile(np.repeat([True, False], per_kind), folds)
    listed = [
        _read_pair(path, number, line, bool(genuine)) for (number, line), genuine in zip(numbered, same, strict=True)
    ]
    return collect(listed, path, np.repeat(np.arange(folds), 2 * per_kind) if folds > 1 else None)


def _read_header(path: str, line: str) -> tuple[int, int]:
    fields = _fields(line)
    if len(fields) not in (1, 2) or not all(_is_number(field) and int(field) > 0 for field in fields):
        raise OctoscaleError(
            f"line 1 of {path} is {line!r}; expected 'FOLDS<tab>PAIRS' or 'PAIRS', the number of genuine pairs per fold"
        )
    return (int(fields[0]), int(fields[1])) if len(fields) == 2 else (1, int(fields[0]))


def _read_pair(path: str, number: int, line: str, genuine: bool) -> Listed:
    where = f"line {number} of {path}"
    match genuine, _fields(line):
        case True, [name, left, right] if _is_number(left) and _is_number(right):
            return Listed(_image(name, left), _image(name, right), True, where)
        case False, [name, left, other, right] if _is_number(left) and _is_number(right):
            return Listed(_image(name, left), _image(other, right), False, where)
    expected = "genuine pair 'NAME<tab>i<tab>j'" if genuine else "impostor pair 'NAME_A<tab>i<tab>NAME_B<tab>j'"
    raise OctoscaleError(f"{where} is {line!r}; expected the {expected}")


def _fields(line: str) -> list[str]:
    # With tabs a name may have spaces in it.
    return [field.strip() for field in line.split("\t")] if "\t" in line else line.split()


def _is_number(field: str) -> bool:
    return field.isdecimal() and len(field) <= _DIGITS


def _image(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"
