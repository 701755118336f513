"""insightface's packs ``lfw.bin``, ``agedb_30.bin``, ``cfp_fp.bin`` …: a pickle of images and labels.

The pickle is (images, labels): 2 n encoded images, two for each pair, as bytes or as uint8 arrays, and n booleans,
true for genuine pairs. Folds are ten consecutive parts. A pickle can run any program when it is read, so what is in it
is limited to these types: nothing of it is looked up by name, not even NumPy's own classes.
"""

import io
import pickle
from typing import Any

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
    store, name = store_and_name(path, storage)
    images, labels = _checked(_unpickled(store.read(name), path), path)
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


class _Dtype:
    """Stands in for numpy.dtype: its name is all that counts."""

    def __init__(self, name: str | bytes, *_: Any) -> None:
        self.name = name.decode() if isinstance(name, bytes) else name

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """Stands in for numpy.ndarray: the bytes of a uint8 or bool vector."""

    data = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, data = state
        self.fill(data, dtype, shape)

    def fill(self, data: Any, dtype: Any, shape: Any) -> "_Array":
        vector = isinstance(dtype, _Dtype) and dtype.name in ("u1", "uint8", "|u1", "b1", "bool", "|b1")
        if not vector or not isinstance(data, bytes | bytearray) or len(shape) != 1:
            raise pickle.UnpicklingError("an array that is no vector of uint8")
        self.data = bytes(data)
        return self


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
    "scalar": lambda dtype, data: bool(_Array().fill(data, dtype, (1,)).data[0]),
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
        case [list() as images, list() | _Array() as labels]:
            pass
        case _:
            raise OctoscaleError(f"{path} is not a pack: expected (images, labels), two lists")
    if isinstance(labels, _Array):
        labels = [bool(label) for label in labels.data]
    encoded = [image.data if isinstance(image, _Array) else image for image in images]
    for place, image in enumerate(encoded):
        if not isinstance(image, bytes):
            raise OctoscaleError(f"image {place} of {path} is of type {type(image).__name__}; expected bytes or uint8")
    for place, label in enumerate(labels):
        if not (isinstance(label, bool) or label in (0, 1)):
            raise OctoscaleError(f"label {place} of {path} is {label!r}; expected true or false")
    if len(encoded) != 2 * len(labels):
        raise OctoscaleError(f"{path} has {len(encoded)} images and {len(labels)} labels; expected two images a label")
    return encoded, [bool(label) for label in labels]
