"""AgeDB-30: the MATLAB file of the protocol with 30 years between the images, ten splits of 600 pairs.

Its cell array ``splits`` has a structure per fold, whose first field is a 2 × n cell array of the pairs, row by row
their first and their second images, and whose second field is 1 × n labels, 1 for genuine and −1 (or 0) for impostor.
Each image is a structure whose first field is its name without ``.jpg``. No description of the file is published:
fields are taken by position, as other readers of it do. The pack ``agedb_30.bin`` holds the same pairs, see
`octoscale.evaluate.protocols.pack`.
"""

from typing import Any

import numpy as np

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.images import without_suffix
from octoscale.evaluate.protocols.matlab import read_matlab
from octoscale.evaluate.protocols.pairs import Listed, Pairs, collect


def read_agedb(path: str, storage: StorageConfig = DEFAULT) -> Pairs:
    """Read AgeDB's protocol file.

    Args:
        path: a local path or URL.
        storage: how it is reached.

    Raises:
        OctoscaleError: the file cannot be read, or is built differently; SciPy is missing.
    """
    splits = read_matlab(path, "splits", storage=storage)["splits"]
    listed, folds = [], []
    for fold, split in enumerate(splits.ravel()):
        try:
            pairs, labels = _fields(split)[:2]
            first, second = ([_name(image) for image in row] for row in pairs)
            same = labels.ravel() > 0
            if not len(first) == len(second) == len(same):
                raise ValueError(f"{len(first)} and {len(second)} images, {len(same)} labels")
            # Found by position, labels could be anything else.
            if not all(label in (-1, 0, 1) for label in labels.ravel()):
                raise ValueError("labels other than 1, −1 and 0")
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            raise OctoscaleError(
                f"split {fold + 1} of {path} is not built as AgeDB's ({error}); give the protocol's .mat of 30 years, "
                "or the pack agedb_30.bin with the protocol bin"
            ) from error
        for number, (left, right, genuine) in enumerate(zip(first, second, same, strict=True), start=1):
            listed.append(Listed(left, right, bool(genuine), f"pair {number} of split {fold + 1} of {path}"))
        folds += [fold] * len(same)
    return collect(listed, path, folds if splits.size > 1 else None)


def _fields(value: Any) -> list[Any]:
    """The fields of a structure, in order, out of the 1 × 1 arrays that MATLAB wraps everything in."""
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    if not isinstance(value, np.void):
        raise TypeError(f"{type(value).__name__} where a structure was expected")
    # NumPy's annotations do not know that a structure can be iterated.
    fields: list[Any] = list(value)  # type: ignore[call-overload]
    return fields


def _name(image: Any) -> str:
    field = _fields(image)[0]
    name = str(np.asarray(field).ravel()[0])
    if not name:
        raise ValueError("an image without a name")
    return without_suffix(name)
