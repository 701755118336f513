"""SLLFW's ``pair_SLLFW.txt``.

Two lines make a pair, each ``NAME/NAME_0001.jpg``; the pair is genuine where both names are the same. The images
are LFW's. Its page says that it keeps LFW's folds and replaces the impostor pairs only, not in which order they
stand in the file: the file is taken to be in the order of ``pairs.txt``, ten folds one after the other. Where a fold
so found lacks one kind of pair, either kind is cut by itself, as in CALFW.
"""

import numpy as np

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.images import without_suffix
from octoscale.evaluate.protocols.pairs import FOLDS, Listed, Pairs, collect, contiguous_folds
from octoscale.evaluate.protocols.text import read_lines, two_by_two


def read_sllfw(path: str, storage: StorageConfig = DEFAULT) -> Pairs:
    """Read a list of pairs in SLLFW's form.

    Args:
        path: a local path or URL.
        storage: how it is reached.

    Raises:
        OctoscaleError: the file cannot be read, or a line is malformed: its number and what was expected.
    """
    listed = []
    for number, *both in two_by_two(read_lines(path, storage), path):
        (first, name), (second, other) = (_read_line(path, number + k, line) for k, line in enumerate(both))
        listed.append(Listed(first, second, name == other, f"line {number} of {path}"))
    fold = contiguous_folds(len(listed))
    same = np.array([pair.same for pair in listed], bool)
    genuine = np.bincount(fold[same], minlength=FOLDS)
    mixed = (genuine > 0) & (genuine < np.bincount(fold, minlength=FOLDS))
    return collect(listed, path, fold if mixed.all() else None)


def _read_line(path: str, number: int, line: str) -> tuple[str, str]:
    """The image, and whom it shows."""
    match line.strip().split("/"):
        case [name, image] if name and image:
            return without_suffix(f"{name}/{image}"), name
    raise OctoscaleError(f"line {number} of {path} is {line!r}; expected 'NAME/NAME_0001.jpg'")
