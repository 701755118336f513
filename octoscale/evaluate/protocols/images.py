"""The images of a protocol: found by their names without suffix, decoded, stacked."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octoscale.data.decode import decode_image
from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.pairs import Pairs

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def without_suffix(name: str) -> str:
    """The name as in `Pairs.images`: lists say ``Ada_0001.jpg`` where the crops may be PNG."""
    path = PurePosixPath(name)
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)


def images_below(store: Store, folder: str = "") -> list[str]:
    """The path of every image below `folder`, sorted; both relative to `store`."""
    return sorted(path for path in store.list(folder) if PurePosixPath(path).suffix.lower() in SUFFIXES)


def look_up(names: Sequence[str], store: Store) -> list[str | None]:
    """Where images are in `store`, by their names without a suffix; None: nowhere.

    Accents count the same whether they are letters of their own or not: files unpacked on a Mac have them so.

    Raises:
        OctoscaleError: two files have one of the names.
    """
    found: dict[str, list[str]] = {}
    for path in images_below(store):
        found.setdefault(_composed(without_suffix(path)), []).append(path)
    places: list[str | None] = []
    for name in names:
        paths = found.get(_composed(name), [])
        if len(paths) > 1:
            raise OctoscaleError(f"{store.url} has {' and '.join(paths)}: two images for {name}; remove all but one")
        places.append(paths[0] if paths else None)
    return places


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def find_images(pairs: Pairs, directory: str, storage: StorageConfig = DEFAULT) -> tuple[Store, list[str]]:
    """Where the m distinct images of `pairs` are: a store, and the path of each in it.

    Args:
        directory: the folder that the names are relative to (.jpg, .jpeg, .png or .webp), a local path or URL.
        storage: how it is reached.

    Raises:
        OctoscaleError: an image is missing (the pair that needs it is named), or there twice.
    """
    store = Store(directory, storage)
    paths = []
    for row, (image, path) in enumerate(zip(pairs.images, look_up(pairs.images, store), strict=True)):
        if path is None:
            pair = int(np.flatnonzero((pairs.first == row) | (pairs.second == row))[0])
            raise OctoscaleError(
                f"{directory} has no {image} ({', '.join(SUFFIXES)}); {pairs.where[pair]} needs it: "
                f"{pairs.images[pairs.first[pair]]} and {pairs.images[pairs.second[pair]]}"
            )
        paths.append(path)
    return store, paths


def load_images(pairs: Pairs, directory: str, storage: StorageConfig = DEFAULT) -> Tensor:
    """Read and decode the m distinct images of `pairs`.

    Args:
        directory, storage: see `find_images`.

    Returns:
        uint8 [m, 3, size, size], RGB.

    Raises:
        OctoscaleError: see `find_images`; or an image is damaged, not square, or of another size than the first.
    """
    store, paths = find_images(pairs, directory, storage)
    return stack(paths, store.read_many(paths), directory)


def stack(names: Sequence[str], encoded: Iterable[bytes], source: str, first: tuple[str, int] | None = None) -> Tensor:
    """Decode images of one size.

    Args:
        names: of the images, for messages.
        encoded: their bytes.
        source: what they are in, for messages.
        first: name and height of the image that all are to be as; None: it is the first of these.

    Returns:
        uint8 [len(names), 3, size, size], RGB, in channels-last memory.

    Raises:
        OctoscaleError: an image is damaged, not square, or of another size than the first.
    """
    images: NDArray[np.uint8] | None = None
    for row, (name, data) in enumerate(zip(names, encoded, strict=True)):
        try:
            pixels = decode_image(data)
        except OctoscaleError as error:
            raise OctoscaleError(f"cannot decode {name} in {source}: {error}") from error
        height, width, _ = pixels.shape
        first = first or (name, height)
        if images is None:
            images = np.empty((len(names), first[1], first[1], 3), np.uint8)
        if pixels.shape != images.shape[1:]:
            raise OctoscaleError(
                f"{name} in {source} is {width}×{height} px; all images must be square and of one size, "
                f"as {first[0]}, which is {first[1]} px high"
            )
        images[row] = pixels
    assert images is not None
    # [m, H, W, 3] ─▶ [m, 3, H, W]
    return torch.from_numpy(images).permute(0, 3, 1, 2)
