"""Lists of image pairs to verify, in the form of LFW's ``pairs.txt``, and their images.

The first line holds the number of folds and n, separated by a tab; with one fold, n alone. Each fold has
n genuine lines ``NAME  i  j``, then n impostor lines ``NAME_A  i  NAME_B  j``. Image i of NAME is
``NAME/NAME_000i.jpg``.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octoscale.data.decode import decode_image
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Pairs:
    """n pairs of m distinct images, in the order of the file: pair k stands on line k + 2."""

    images: tuple[str, ...]  # [m] ``NAME/NAME_0001``, without a suffix
    first: NDArray[np.int64]  # [n] rows of `images`
    second: NDArray[np.int64]  # [n]
    same: NDArray[np.bool_]  # [n] true for genuine pairs
    folds: int

    def __len__(self) -> int:
        return len(self.same)


def read_pairs(path: str | Path) -> Pairs:
    """Read an LFW-form list of pairs.

    Args:
        path: a local path or URL.

    Raises:
        OctoscaleError: the file cannot be read, or a line is malformed: its number and what was expected.
    """
    folder, _, name = str(path).rpartition("/")
    data = Store(folder or ("/" if str(path).startswith("/") else ".")).read(name)
    try:
        lines = data.decode().rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise OctoscaleError(f"{path} is not UTF-8 text: {error}; give a list of pairs in LFW's form") from error
    folds, per_kind = _read_header(str(path), lines[0] if lines else "")
    same = np.tile(np.repeat([True, False], per_kind), folds)
    if len(lines) - 1 != len(same):
        raise OctoscaleError(
            f"{path} has {len(lines) - 1} lines after the first; its first line {lines[0]!r} promises {len(same)}: "
            f"{folds} × ({per_kind} genuine + {per_kind} impostor pairs)"
        )
    rows: dict[str, int] = {}
    pairs = [
        [rows.setdefault(image, len(rows)) for image in _read_pair(str(path), number, line, bool(genuine))]
        for number, (line, genuine) in enumerate(zip(lines[1:], same, strict=True), start=2)
    ]
    first, second = np.array(pairs, np.int64).T
    return Pairs(tuple(rows), first, second, same, folds)


def _read_header(path: str, line: str) -> tuple[int, int]:
    fields = line.split("\t")
    if len(fields) > 2 or not all(field.isdecimal() and int(field) > 0 for field in fields):
        raise OctoscaleError(
            f"line 1 of {path} is {line!r}; expected 'FOLDS<tab>PAIRS' or 'PAIRS', the number of genuine pairs per fold"
        )
    return (int(fields[0]), int(fields[1])) if len(fields) == 2 else (1, int(fields[0]))


def _read_pair(path: str, number: int, line: str, genuine: bool) -> tuple[str, str]:
    match genuine, line.split("\t"):
        case True, [name, left, right] if left.isdecimal() and right.isdecimal():
            return _image(name, left), _image(name, right)
        case False, [name, left, other, right] if left.isdecimal() and right.isdecimal():
            return _image(name, left), _image(other, right)
    expected = "genuine pair 'NAME<tab>i<tab>j'" if genuine else "impostor pair 'NAME_A<tab>i<tab>NAME_B<tab>j'"
    raise OctoscaleError(f"line {number} of {path} is {line!r}; expected the {expected}")


def _image(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"


def load_images(pairs: Pairs, directory: str | Path) -> Tensor:
    """Read and decode the m distinct images of `pairs`.

    Args:
        directory: the folder of ``NAME/NAME_0001.jpg`` (or .jpeg, .png, .webp), a local path or URL.

    Returns:
        uint8 [m, 3, size, size], RGB.

    Raises:
        OctoscaleError: an image is missing (the pair that needs it is named), damaged, not square, or of
            another size than the first.
    """
    store = Store(str(directory))
    paths = (PurePosixPath(path) for path in store.list())
    found = {str(path.with_suffix("")): str(path) for path in paths if path.suffix.lower() in _SUFFIXES}
    for row, image in enumerate(pairs.images):
        if image not in found:
            pair = int(np.flatnonzero((pairs.first == row) | (pairs.second == row))[0])
            raise OctoscaleError(
                f"{directory} has no {image} ({', '.join(_SUFFIXES)}); line {pair + 2} of the list needs it: "
                f"{pairs.images[pairs.first[pair]]} and {pairs.images[pairs.second[pair]]}"
            )
    names = [found[image] for image in pairs.images]
    images: NDArray[np.uint8] | None = None
    for row, (name, data) in enumerate(zip(names, store.read_many(names), strict=True)):
        try:
            pixels = decode_image(data)
        except OctoscaleError as error:
            raise OctoscaleError(f"cannot decode {name} in {directory}: {error}") from error
        height, width, _ = pixels.shape
        if images is None:
            images = np.empty((len(names), height, height, 3), np.uint8)
        if pixels.shape != images.shape[1:]:
            raise OctoscaleError(
                f"{name} in {directory} is {width}×{height} px; all images must be square and of one size, "
                f"as {names[0]}, which is {images.shape[1]} px high"
            )
        images[row] = pixels
    assert images is not None
    # [m, H, W, 3] ─▶ [m, 3, H, W], in channels-last memory
    return torch.from_numpy(images).permute(0, 3, 1, 2)
