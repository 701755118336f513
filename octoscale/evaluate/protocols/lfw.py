"""LFW's ``pairs.txt``, and XQLFW's ``xqlfw_pairs.txt``, which has the same form.

The first line holds the number of folds and n, separated by a tab; with one fold, n alone. Each fold has
n genuine lines ``NAME  i  j``, then n impostor lines ``NAME_A  i  NAME_B  j``. Image i of NAME is
``NAME/NAME_000i.jpg``.
"""

import numpy as np

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.pairs import Listed, Pairs, collect
from octoscale.evaluate.protocols.text import read_lines


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
    same = np.tile(np.repeat([True, False], per_kind), folds)
    if len(lines) - 1 != len(same):
        raise OctoscaleError(
            f"{path} has {len(lines) - 1} lines after the first; its first line {lines[0]!r} promises {len(same)}: "
            f"{folds} × ({per_kind} genuine + {per_kind} impostor pairs)"
        )
    listed = [
        _read_pair(path, number, line, bool(genuine))
        for number, (line, genuine) in enumerate(zip(lines[1:], same, strict=True), start=2)
    ]
    return collect(listed, path, np.repeat(np.arange(folds), 2 * per_kind) if folds > 1 else None)


def _read_header(path: str, line: str) -> tuple[int, int]:
    fields = line.split("\t")
    if len(fields) > 2 or not all(field.isdecimal() and int(field) > 0 for field in fields):
        raise OctoscaleError(
            f"line 1 of {path} is {line!r}; expected 'FOLDS<tab>PAIRS' or 'PAIRS', the number of genuine pairs per fold"
        )
    return (int(fields[0]), int(fields[1])) if len(fields) == 2 else (1, int(fields[0]))


def _read_pair(path: str, number: int, line: str, genuine: bool) -> Listed:
    where = f"line {number} of {path}"
    match genuine, line.split("\t"):
        case True, [name, left, right] if left.isdecimal() and right.isdecimal():
            return Listed(_image(name, left), _image(name, right), True, where)
        case False, [name, left, other, right] if left.isdecimal() and right.isdecimal():
            return Listed(_image(name, left), _image(other, right), False, where)
    expected = "genuine pair 'NAME<tab>i<tab>j'" if genuine else "impostor pair 'NAME_A<tab>i<tab>NAME_B<tab>j'"
    raise OctoscaleError(f"{where} is {line!r}; expected the {expected}")


def _image(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"
