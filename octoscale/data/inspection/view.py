"""A data set to look into: its index, and single images from where it is."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from octoscale.data.decode import decode_image
from octoscale.data.index import MANIFEST_NAME, Index, read_manifest
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.data.verified import VerifiedStore


@dataclass(frozen=True)
class View:
    """The index of a data set, and the store of its shards."""

    index: Index
    store: Store

    def read(self, sample_id: int) -> bytes:
        """The bytes of an image.

        Raises:
            OctoscaleError: unreadable, or not the bytes that were packed.
        """
        shard = int(self.index.shard_ids[sample_id])
        return VerifiedStore(self.store, self.index).read(shard, np.array([sample_id]))[sample_id]

    def decode(self, sample_id: int) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]."""
        return decode_image(self.read(sample_id))


@contextmanager
def open_view(url: str, storage: StorageConfig | None = None) -> Iterator[View]:
    """A view of the data set at `url`. Of a remote one only the index is copied.

    Raises:
        OctoscaleError: not a packed data set, or damaged.
    """
    store = Store(url, storage or StorageConfig())
    manifest = read_manifest(store.read, store.exists, url)
    if store.is_local:
        yield View(Index.load(store.local_path()), store)
        return
    with tempfile.TemporaryDirectory(prefix="octoscale-inspect-") as temporary:
        for name in [MANIFEST_NAME, *manifest.index_sha256]:
            path = Path(temporary, name)
            path.parent.mkdir(exist_ok=True)
            store.download(name, path)
        yield View(Index.load(temporary), store)
