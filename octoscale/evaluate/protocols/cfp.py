"""CFP's folder ``Protocol``: frontal–frontal (FF) and frontal–profile (FP) pairs.

``Pair_list_F.txt`` and ``Pair_list_P.txt`` number the frontal and the profile images, from 1, one
``NUMBER ../Data/Images/PERSON/frontal/01.jpg`` a line. ``Split/FF/01`` to ``Split/FF/10`` (and ``FP``) are the
folds, each with ``same.txt`` and ``diff.txt`` of ``i,j`` a line: i is a frontal image, j a frontal one for FF, a
profile one for FP. An image is known by the last three parts of its path, ``PERSON/frontal/01``.
"""

from pathlib import PurePosixPath
from typing import Literal

from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.images import without_suffix
from octoscale.evaluate.protocols.pairs import Listed, Pairs, collect
from octoscale.evaluate.protocols.text import read_lines


def read_cfp(folder: str, kind: Literal["FF", "FP"], storage: StorageConfig = DEFAULT) -> Pairs:
    """Read CFP's pairs; within a fold the genuine ones come first.

    Args:
        folder: ``Protocol``, a local path or URL.
        storage: how it is reached.

    Raises:
        OctoscaleError: no folds, a file cannot be read, or a line is malformed: its number and what was expected.
    """
    folder = folder.rstrip("/")
    frontal = _read_images(f"{folder}/Pair_list_F.txt", storage)
    others = frontal if kind == "FF" else _read_images(f"{folder}/Pair_list_P.txt", storage)
    found = sorted(
        {PurePosixPath(path).parts[2] for path in Store(folder, storage).list(f"Split/{kind}") if path.count("/") > 2}
    )
    if len(found) < 2:
        raise OctoscaleError(
            f"{folder}/Split/{kind} holds {len(found)} folds; "
            f"give CFP's folder Protocol, which has Split/{kind}/01 to 10"
        )
    listed, folds = [], []
    for fold, name in enumerate(found):
        for file, same in (("same.txt", True), ("diff.txt", False)):
            path = f"{folder}/Split/{kind}/{name}/{file}"
            pairs = [
                _read_pair(line, f"line {number} of {path}", frontal, others, same)
                for number, line in enumerate(read_lines(path, storage), start=1)
            ]
            listed += pairs
            folds += [fold] * len(pairs)
    return collect(listed, f"{folder}/Split/{kind}", folds)


def _read_images(path: str, storage: StorageConfig) -> dict[int, str]:
    images = {}
    for line_number, line in enumerate(read_lines(path, storage), start=1):
        match line.split():
            case [number, image] if number.isdecimal() and image.count("/") >= 2:
                if int(number) in images:
                    raise OctoscaleError(f"line {line_number} of {path} has the number {number} a second time")
                images[int(number)] = without_suffix("/".join(PurePosixPath(image).parts[-3:]))
            case _:
                raise OctoscaleError(
                    f"line {line_number} of {path} is {line!r}; expected 'NUMBER ../Data/Images/001/frontal/01.jpg'"
                )
    return images


def _read_pair(line: str, where: str, frontal: dict[int, str], others: dict[int, str], same: bool) -> Listed:
    left, _, right = (part.strip() for part in line.partition(","))
    if not (left.isdecimal() and right.isdecimal()):
        raise OctoscaleError(f"{where} is {line!r}; expected two numbers 'i,j'")
    if int(left) not in frontal or int(right) not in others:
        raise OctoscaleError(f"{where} is {line!r}; there are images 1…{len(frontal)} and 1…{len(others)}")
    return Listed(frontal[int(left)], others[int(right)], same, where)
