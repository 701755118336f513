"""insightface's packs ``lfw.bin``, ``agedb_30.bin``, ``cfp_fp.bin`` …: a pickle of images and labels.

The pickle is (images, labels): 2 n encoded images, two for each pair, as bytes or as uint8 arrays, and n booleans, or
1 and 0, true for genuine pairs. Folds are ten consecutive parts. A pickle can run any program when it is read, so what
is in it is limited to these types: nothing of it is looked up by name, not even NumPy's own classes.
"""

import io
import pickle
from typing import Any

import numpy as np
from torch import Tensor

from octoscale.data.importers.paths import store_and_name
from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.images import stack
from octoscale.evaluate.protocols.pairs import FOLDS, Listed, Pairs, collect, contiguous_folds


def read_pack(path: str, storage: StorageConfig = DEFAULT) -> tuple[Pairs, Tensor]:
    """Read a pack. An image that is in it several times is kept once.

    Args:
        path: a local path or URL.
        storage: how it is reached.

    Returns:
        The pairs, and uint8 [m, 3, size, size], RGB.

    Raises:
        OctoscaleError: the file cannot be read, holds anything else than images and labels, or an image is damaged.
    """
    images, labels = unpacked(path, storage)
    distinct: dict[bytes, str] = {}
    # Named by the place where it comes up first.
    names = [distinct.setdefault(image, f"image {place}") for place, image in enumerate(images)]
    listed = [
        Listed(names[2 * pair], names[2 * pair + 1], same, f"pair {pair + 1} of {path}")
        for pair, same in enumerate(labels)
    ]
    fold = contiguous_folds(len(labels)) if len(labels) >= FOLDS else None
    pairs = collect(listed, path, fold)
    return pairs, stack(pairs.images, distinct, path)


def unpacked(path: str, storage: StorageConfig = DEFAULT) -> tuple[list[bytes], list[bool]]:
    """The images of a pack, encoded, two for each of the labels, of which there are some.

    Raises:
        OctoscaleError: the file cannot be read, or holds anything else.
    """
    store, name = store_and_name(path, storage)
    images, labels = _checked(_unpickled(store.read(name), path), path)
    if not labels:
        raise OctoscaleError(f"{path} holds no pairs; give another pack")
    return images, labels


# Little-endian, as all of today's machines write them.
_DTYPES = ("b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")


class _Dtype:
    """Stands in for numpy.dtype: its name and byte order are all that counts."""

    order = "|"

    def __init__(self, name: str | bytes, *_: Any) -> None:
        text = name.decode() if isinstance(name, bytes) else name
        self.name = {"bool": "b1", "uint8": "u1"}.get(text, text.lstrip("|<"))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        self.order = order.decode() if isinstance(order, bytes) else order


class _Array:
    """Stands in for numpy.ndarray: a vector of booleans or whole numbers."""

    data = b""
    dtype = "u1"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, data = state
        self.fill(data, dtype, shape)

    def fill(self, data: Any, dtype: Any, shape: Any) -> "_Array":
        known = isinstance(dtype, _Dtype) and dtype.name in _DTYPES and dtype.order in ("|", "<")
        if not known or not isinstance(data, bytes | bytearray) or len(shape) != 1:
            raise pickle.UnpicklingError("an array that is no vector of booleans or whole numbers")
        self.data, self.dtype = bytes(data), dtype.name
        return self

    def numbers(self) -> list[int]:
        return [int(value) for value in np.frombuffer(self.data, f"<{self.dtype}")]


def _latin1(text: str, encoding: str) -> bytes:
    """What pickles of protocol 2 call to make bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


_NUMPY = {
    "ndarray": _Array,
    "dtype": _Dtype,
    "_reconstruct": lambda *_: _Array(),
    "_frombuffer": lambda data, dtype, shape, _: _Array().fill(data, dtype, shape),
    "scalar": lambda dtype, data: _Array().fill(data, dtype, (1,)).numbers()[0],
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if module.partition(".")[0] == "numpy" and name in _NUMPY:
            return _NUMPY[name]
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"a persistent object {pid!r}")


def _unpickled(data: bytes, path: str) -> Any:
    try:
        return _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise OctoscaleError(
            f"{path} is not a pack of images and labels ({type(error).__name__}: {error}); "
            "it may hold only lists, bytes, booleans and uint8 arrays"
        ) from error


def _checked(value: Any, path: str) -> tuple[list[bytes], list[bool]]:
    match value:
        case [list() | tuple() as images, list() | tuple() | _Array() as labels]:
            pass
        case _:
            raise OctoscaleError(f"{path} is not a pack: expected (images, labels), two lists")
    if isinstance(labels, _Array):
        labels = labels.numbers()
    encoded = [image.data if isinstance(image, _Array) and image.dtype == "u1" else image for image in images]
    for place, image in enumerate(encoded):
        if not isinstance(image, bytes):
            raise OctoscaleError(f"image {place} of {path} is of type {type(image).__name__}; expected bytes or uint8")
    for place, label in enumerate(labels):
        if not (isinstance(label, bool) or label in (0, 1)):
            raise OctoscaleError(f"label {place} of {path} is {label!r}; expected true or false")
    if len(encoded) != 2 * len(labels):
        raise OctoscaleError(f"{path} has {len(encoded)} images and {len(labels)} labels; expected two images a label")
    return encoded, [bool(label) for label in labels]
