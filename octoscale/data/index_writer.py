"""Writes an index beside the shards that it describes."""

import hashlib
import io

import numpy as np
from numpy.typing import NDArray

from octoscale.data.index import ARRAYS, KEYS_NAME, SAMPLE_NAMES_NAME, Manifest, Shard, array_name
from octoscale.data.names import Names
from octoscale.data.storage import Store


def write_index(
    destination: Store,
    arrays: dict[str, NDArray[np.generic]],
    *,
    keys: list[str],
    names: Names,
    shards: tuple[Shard, ...],
    image_size: int,
) -> Manifest:
    """Write everything under ``index/``. The manifest is returned, to be written when all else is there.

    Args:
        arrays: the fields of `Index`, rows sorted by identity.
        keys: of the identities.
        names: what the source calls each image.
    """
    sha256 = {}

    def put(name: str, data: bytes) -> None:
        destination.write(name, data)
        sha256[name] = hashlib.sha256(data).hexdigest()

    for field, dtype in ARRAYS.items():
        assert arrays[field].dtype == dtype
        buffer = io.BytesIO()
        np.save(buffer, arrays[field], allow_pickle=False)
        put(array_name(field), buffer.getvalue())
    put(KEYS_NAME, "".join(f"{key}\n" for key in keys).encode())
    put(SAMPLE_NAMES_NAME, names.dump())
    return Manifest.create(
        image_size=image_size, images=len(names), identities=len(keys), shards=shards, index_sha256=sha256
    )
