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

from octoscale.data.decode import decode_image
from octoscale.data.index import Index
from octoscale.data.shard_files import OpenShard, ShardFiles
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

# Well below the usual limit of 1,024 descriptors, with several readers in one process.
_MAX_OPEN_SHARDS = 128
# Of a direct read whose bytes are wrong: they may have been spoilt on the way.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Substitution:
    """A planned image that cannot be used, and the one of the same identity that took its place."""

    sample_id: int
    substitute: int
    cause: str


class _DamagedError(OctoscaleError):
    """The image is there, but not as it was packed."""


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
        return self._stack([self._decode(int(sample_id)) for sample_id in sample_ids])

    def read_batch(self, sample_ids: Sequence[int] | NDArray[np.integer]) -> tuple[Tensor, list[Substitution]]:
        """The same, but an image that is damaged gives its place to another one of its identity.

        Which one is a matter of its sample id alone, so every rank and worker chooses the same; images
        of the batch itself come last, as a pair of one image teaches nothing.

        Raises:
            OctoscaleError: no image of the identity is good, or one cannot be reached: what passes must not change
                the batches.
        """
        self._close_dropped()
        planned = [int(sample_id) for sample_id in sample_ids]
        images, substitutions = [], []
        for sample_id in planned:
            try:
                images.append(self._decode(sample_id))
            except _DamagedError as error:
                image, substitute = self._substitute(sample_id, planned, error)
                images.append(image)
                substitutions.append(Substitution(sample_id, substitute, str(error)))
        return self._stack(images), substitutions

    def close(self) -> None:
        """Close the shards; the next read opens them again."""
        _close_all(self._open)

    def _stack(self, images: list[NDArray[np.uint8]]) -> Tensor:
        size = self.index.image_size
        stacked = np.empty((len(images), size, size, 3), np.uint8)
        for row, image in enumerate(images):
            stacked[row] = image
        return torch.from_numpy(stacked).permute(0, 3, 1, 2)

    def _substitute(self, sample_id: int, batch: list[int], cause: OctoscaleError) -> tuple[NDArray[np.uint8], int]:
        offsets = self.index.identity_offsets
        identity = int(self.index.identity_of(np.array(sample_id)))
        others = [row for row in range(int(offsets[identity]), int(offsets[identity + 1])) if row != sample_id]
        others.sort(key=lambda row: (row in batch, zlib.crc32(struct.pack("<qq", sample_id, row))))
        for row in others:
            try:
                return self._decode(row), row
            except _DamagedError:
                continue
        raise OctoscaleError(
            f"no image of identity {self.index.identity_keys[identity]!r} can be read, all {len(others) + 1} were "
            f"tried; the planned one: {cause}"
        ) from cause

    def _decode(self, sample_id: int) -> NDArray[np.uint8]:
        index = self.index
        if not 0 <= sample_id < len(index):
            raise IndexError(f"sample id {sample_id} of {len(index)} images")
        try:
            data = self._bytes(sample_id)
            try:
                image = decode_image(data)
            except OctoscaleError as error:
                raise _DamagedError(str(error)) from error
            if image.shape != (index.image_size, index.image_size, 3):
                raise _DamagedError(f"decoded to {image.shape[1]}×{image.shape[0]} pixels, not {index.image_size}")
        except (OSError, OctoscaleError) as error:
            name = index.manifest.shards[index.shard_ids[sample_id]].name
            where = self.directory / name if self.store is None else f"{self.store.url}/{name}"
            kind = _DamagedError if isinstance(error, _DamagedError) else OctoscaleError
            raise kind(
                f"sample {sample_id} at byte {index.offsets[sample_id]} of {where} cannot be read: {error}; "
                "restore the shard or pack the data set again"
            ) from error
        return image

    def _bytes(self, sample_id: int) -> bytes:
        """The packed bytes: from the open shard, from the one that may have taken its place, or from where it came."""
        index, shard = self.index, int(self.index.shard_ids[sample_id])
        problem: OSError | _DamagedError | None = None
        for _ in range(2):
            try:
                data = self._shard(shard).read(index, sample_id)
                if data is not None:
                    return self._checked(sample_id, data)
            except (OSError, _DamagedError) as error:
                problem = error
            if (stale := self._open.pop(shard, None)) is not None:
                stale.close()
        if self.store is None:
            assert problem is not None
            raise problem
        start, size = int(index.offsets[sample_id]), int(index.sizes[sample_id])
        for _ in range(_ATTEMPTS):
            # The store tries again by itself; here only what came is looked at.
            data = self.store.read_range(index.manifest.shards[shard].name, start, start + size)
            try:
                return self._checked(sample_id, data)
            except _DamagedError as error:
                problem = error
        assert problem is not None
        raise problem

    def _checked(self, sample_id: int, data: bytes) -> bytes:
        size = int(self.index.sizes[sample_id])
        if len(data) < size:
            raise _DamagedError(f"the shard ends after {len(data)} of {size} bytes")
        if zlib.crc32(data) != self.index.crc32[sample_id]:
            raise _DamagedError("its bytes are not those that were packed (crc32 differs)")
        return data

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
