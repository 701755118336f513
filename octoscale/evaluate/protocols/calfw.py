"""CALFW's ``pairs_CALFW.txt`` and CPLFW's ``pairs_CPLFW.txt``.

Two lines make a pair, each ``NAME_0001.jpg LABEL``: the label is 0 for an impostor pair, anything else for a
genuine one (CALFW writes the fold, 1 to 10, CPLFW writes 1), and both lines have the same. All genuine pairs come
first. Images are named without a folder.

No fold of the impostor pairs is published. As in other implementations the first tenth of either kind is the first
fold, and so on: 300 + 300 of 3,000 + 3,000; CALFW's own folds of the genuine pairs are the same.
"""

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.images import without_suffix
from octoscale.evaluate.protocols.pairs import Listed, Pairs, collect
from octoscale.evaluate.protocols.text import read_lines, two_by_two


def read_calfw(path: str, storage: StorageConfig = DEFAULT) -> Pairs:
    """Read a list of pairs in the form of CALFW and CPLFW.

    Args:
        path: a local path or URL.
        storage: how it is reached.

    Raises:
        OctoscaleError: the file cannot be read, or a line is malformed: its number and what was expected.
    """
    listed = []
    for number, *both in two_by_two(read_lines(path, storage), path):
        (first, label), (second, other) = (_read_line(path, number + k, line) for k, line in enumerate(both))
        where = f"line {number} of {path}"
        if label != other:
            raise OctoscaleError(f"{where} has the label {label} and the line after it {other}; a pair has one label")
        listed.append(Listed(first, second, label != 0, where))
    return collect(listed, path)


def _read_line(path: str, number: int, line: str) -> tuple[str, int]:
    match line.rsplit(maxsplit=1):
        case [image, label] if label.isdecimal():
            return without_suffix(image), int(label)
    raise OctoscaleError(f"line {number} of {path} is {line!r}; expected 'NAME_0001.jpg LABEL'")
