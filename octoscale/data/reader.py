"""Images by sample id, from the shards on this node's disk."""

import os
import struct
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from octoscale.data.decode import decode_into
from octoscale.data.index import Index
from octoscale.data.shard_files import OpenShard, ShardFiles
from octoscale.data.storage import Store
from octoscale.data.verified import DamagedError, VerifiedStore
from octoscale.errors import OctoscaleError

# Well below the usual limit of 1,024 descriptors, with several readers in one process.
_MAX_OPEN_SHARDS = 128


@dataclass(frozen=True)
class Substitution:
    """A planned image that cannot be used, and the one of the same identity that took its place."""

    sample_id: int
    substitute: int
    cause: str


class ImageReader(Dataset[Tensor]):
    """A map from sample id to image, reading ranges of the shards under `directory`.

    What is missing or damaged there is read from `store`, where the data set comes from one.
    Can be pickled to spawned workers; each opens the shards itself.
    """

    def __init__(self, index: Index, directory: str | Path, store: Store | None = None) -> None:
        self.index = index
        self.directory = Path(directory)
        self.store = store
        self._start()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, sample_id: int) -> Tensor:
        """uint8 [3, H, W], RGB.

        Raises:
            OctoscaleError: the image cannot be read or decoded: shard, offset, sample id and cause.
        """
        return self.__getitems__([sample_id])[0]

    def __getitems__(self, sample_ids: Sequence[int] | NDArray[np.integer]) -> Tensor:
        """uint8 [n, 3, H, W], RGB, in channels-last memory as decoders write it."""
        images = np.empty(self.batch_shape(len(sample_ids)), np.uint8)
        for image, sample_id in zip(images, sample_ids, strict=True):
            self._read(int(sample_id), image)
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def batch_shape(self, count: int) -> tuple[int, int, int, int]:
        """[n, H, W, 3] for `count` images."""
        return count, self.index.image_size, self.index.image_size, 3

    def read_batch(self, sample_ids: Sequence[int] | NDArray[np.integer], out: NDArray[np.uint8]) -> list[Substitution]:
        """Write the images to `out`, uint8 [n, H, W, 3]; a damaged one gives its place to another of its identity.

        Which one is a matter of its sample id alone, so every rank and worker chooses the same; images
        of the batch itself come last, as a pair of one image teaches nothing.

        Raises:
            OctoscaleError: no image of the identity is good, or one cannot be reached: what passes must not change
                the batches.
        """
        self._close_dropped()
        planned = [int(sample_id) for sample_id in sample_ids]
        substitutions = []
        for image, sample_id in zip(out, planned, strict=True):
            try:
                self._read(sample_id, image)
            except DamagedError as error:
                substitute = self._substitute(sample_id, image, planned, error)
                substitutions.append(Substitution(sample_id, substitute, str(error)))
        return substitutions

    def close(self) -> None:
        """Close the shards; the next read opens them again."""
        _close_all(self._open)

    def _substitute(self, sample_id: int, image: NDArray[np.uint8], batch: list[int], cause: OctoscaleError) -> int:
        """The sample id of the one whose pixels are now in `image`."""
        offsets = self.index.identity_offsets
        identity = int(self.index.identity_of(np.array(sample_id)))
        others = [row for row in range(int(offsets[identity]), int(offsets[identity + 1])) if row != sample_id]
        others.sort(key=lambda row: (row in batch, zlib.crc32(struct.pack("<qq", sample_id, row))))
        for row in others:
            try:
                self._read(row, image)
            except DamagedError:
                continue
            return row
        raise OctoscaleError(
            f"no image of identity {self.index.identity_keys[identity]!r} can be read, all {len(others) + 1} were "
            f"tried; the planned one: {cause}"
        ) from cause

    def _read(self, sample_id: int, image: NDArray[np.uint8]) -> None:
        """Put the pixels of a sample into `image`, uint8 [H, W, 3]."""
        if not 0 <= sample_id < len(self.index):
            raise IndexError(f"sample id {sample_id} of {len(self.index)} images")
        try:
            data = self._packed_on_disk(sample_id)
        except (OSError, DamagedError) as error:
            if self.store is None:
                kind = DamagedError if isinstance(error, DamagedError) else OctoscaleError
                raise kind(self._unreadable(sample_id, error)) from error
            data = self._packed_in_store(sample_id)
        try:
            decode_into(data, image)
        except OctoscaleError as error:
            raise DamagedError(self._unreadable(sample_id, error)) from error

    def _packed_on_disk(self, sample_id: int) -> bytes:
        """The packed bytes from the open shard, or from the file that may have taken its place."""
        shard = int(self.index.shard_ids[sample_id])
        try:
            return self._checked(sample_id, self._shard(shard).read(self.index, sample_id))
        except (OSError, DamagedError):
            if (stale := self._open.pop(shard, None)) is not None:
                stale.close()
            return self._checked(sample_id, self._shard(shard).read(self.index, sample_id))

    def _checked(self, sample_id: int, data: bytes | None) -> bytes:
        if data is None:
            raise FileNotFoundError("not in the part of the shard that is there")
        size = int(self.index.sizes[sample_id])
        if len(data) < size:
            raise DamagedError(f"the shard ends after {len(data)} of {size} bytes")
        if zlib.crc32(data) != self.index.crc32[sample_id]:
            raise DamagedError("its bytes are not those that were packed (crc32 differs)")
        return data

    def _packed_in_store(self, sample_id: int) -> bytes:
        assert self.store is not None
        shard = int(self.index.shard_ids[sample_id])
        try:
            return VerifiedStore(self.store, self.index).read(shard, np.array([sample_id]))[sample_id]
        except DamagedError:
            raise
        except OctoscaleError as error:
            raise OctoscaleError(self._unreadable(sample_id, error)) from error

    def _unreadable(self, sample_id: int, cause: Exception) -> str:
        name = self.index.manifest.shards[self.index.shard_ids[sample_id]].name
        where = self.directory / name if self.store is None else f"{self.store.url}/{name}"
        return (
            f"sample {sample_id} at byte {self.index.offsets[sample_id]} of {where} cannot be read: {cause}; "
            "restore the shard or pack the data set again"
        )

    def _shard(self, shard: int) -> OpenShard:
        opened = self._open.pop(shard, None)
        if opened is None:
            if len(self._open) >= _MAX_OPEN_SHARDS:
                self._open.pop(next(iter(self._open))).close()
            opened = self._files.open(shard)
        # Last used goes last: the first one is the longest unused.
        self._open[shard] = opened
        return opened

    def _close_dropped(self) -> None:
        """Close shards that the cache has dropped: an open file keeps its place on the disk."""
        for shard, opened in list(self._open.items()):
            if os.fstat(opened.descriptor).st_nlink == 0:
                self._open.pop(shard).close()

    def _start(self) -> None:
        self._files = ShardFiles(self.index, self.directory)
        self._open: dict[int, OpenShard] = {}
        weakref.finalize(self, _close_all, self._open)

    def __getstate__(self) -> dict[str, Any]:
        return {"index": self.index, "directory": self.directory, "store": self.store}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()


def _close_all(opened: dict[int, OpenShard]) -> None:
    while opened:
        opened.popitem()[1].close()
