"""Images by sample id, from the shards of a local data set."""

import os
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from octoscale.data.decode import decode_image
from octoscale.data.index import Index
from octoscale.errors import OctoscaleError

__all__ = ["ImageReader", "decode_image"]

# Well below the usual limit of 1,024 descriptors, with several readers in one process.
_MAX_OPEN_SHARDS = 128


class ImageReader(Dataset[Tensor]):
    """A map from sample id to image, reading ranges of the shards under `directory`.

    Can be pickled to spawned workers; each opens the shards itself.
    """

    def __init__(self, index: Index, directory: str | Path) -> None:
        self.index = index
        self.directory = Path(directory)
        self._open_shards()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, sample_id: int) -> Tensor:
        """uint8 [3, H, W], RGB.

        Raises:
            OctoscaleError: the image cannot be read or decoded: shard, offset, sample id and cause.
        """
        return self.__getitems__([sample_id])[0]

    def __getitems__(self, sample_ids: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """uint8 [n, 3, H, W], RGB, in channels-last memory as decoders write it."""
        size = self.index.image_size
        images = np.empty((len(sample_ids), size, size, 3), np.uint8)
        for row, sample_id in enumerate(sample_ids):
            images[row] = self._decode(int(sample_id))
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def close(self) -> None:
        """Close the shards; the next read opens them again."""
        _close_all(self._descriptors)

    def _decode(self, sample_id: int) -> NDArray[np.uint8]:
        index = self.index
        if not 0 <= sample_id < len(index):
            raise IndexError(f"sample id {sample_id} of {len(index)} images")
        name = index.manifest.shards[index.shard_ids[sample_id]].name
        offset, size = int(index.offsets[sample_id]), int(index.sizes[sample_id])
        try:
            data = os.pread(self._descriptor(name), size, offset)
            if len(data) < size:
                raise OctoscaleError(f"the shard ends after {len(data)} of {size} bytes")
            if zlib.crc32(data) != index.crc32[sample_id]:
                raise OctoscaleError("its bytes are not those that were packed (crc32 differs)")
            image = decode_image(data)
            if image.shape != (index.image_size, index.image_size, 3):
                raise OctoscaleError(f"decoded to {image.shape[1]}×{image.shape[0]} pixels, not {index.image_size}")
        except (OSError, OctoscaleError) as error:
            raise OctoscaleError(
                f"sample {sample_id} at byte {offset} of {self.directory / name} cannot be read: {error}; "
                "pack the data set again, or delete this copy of it to download it again"
            ) from error
        return image

    def _descriptor(self, name: str) -> int:
        descriptor = self._descriptors.pop(name, None)
        if descriptor is None:
            if len(self._descriptors) >= _MAX_OPEN_SHARDS:
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
            descriptor = os.open(self.directory / name, os.O_RDONLY)
        # Last used goes last: the first one is the longest unused.
        self._descriptors[name] = descriptor
        return descriptor

    def _open_shards(self) -> None:
        self._descriptors: dict[str, int] = {}
        weakref.finalize(self, _close_all, self._descriptors)

    def __getstate__(self) -> dict[str, Any]:
        return {"index": self.index, "directory": self.directory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_shards()


def _close_all(descriptors: dict[str, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
