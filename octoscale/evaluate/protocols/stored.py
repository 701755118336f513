"""Images that are too many to hold: read and decoded when they are asked for."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octoscale.data.align import ALIGNED_SIZE, align
from octoscale.data.decode import decode_image
from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.images import found_below, stack


class StoredImages:
    """m images of a folder, as `octoscale.evaluate.embedding.Images`.

    Args:
        names: without a suffix, below `directory`.
        directory: a local path or URL.
        landmarks: float [m, 5, 2] in pixels; the images are aligned by them. None: they are aligned crops.
        storage: how the folder is reached.

    Raises:
        OctoscaleError: an image is missing.
    """

    def __init__(
        self,
        names: Sequence[str],
        directory: str,
        landmarks: NDArray[np.floating] | None = None,
        storage: StorageConfig = DEFAULT,
    ) -> None:
        self._store = Store(directory, storage)
        found = found_below(self._store)
        missing = [name for name in names if name not in found]
        if missing:
            raise OctoscaleError(
                f"{directory} lacks {len(missing):,} of {len(names):,} images; the first: {missing[0]}"
            )
        self._paths = [found[name] for name in names]
        self._landmarks = landmarks

    def __len__(self) -> int:
        return len(self._paths)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        size = ALIGNED_SIZE if self._landmarks is not None else self[torch.tensor([0])].shape[-1]
        return len(self), 3, size, size

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """uint8 [len(rows), 3, size, size].

        Raises:
            OctoscaleError: an image cannot be read or decoded, or is of another size than the first.
        """
        paths = [self._paths[row] for row in rows.tolist()]
        encoded = self._store.read_many(paths)
        if self._landmarks is None:
            return stack(paths, encoded, self._store.url)
        aligned = [align(decode_image(data), self._landmarks[row]) for row, data in zip(rows, encoded, strict=True)]
        return torch.from_numpy(np.stack(aligned)).permute(0, 3, 1, 2)
