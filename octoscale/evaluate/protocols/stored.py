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
from octoscale.evaluate.protocols.images import look_up, stack


class StoredImages:
    """m images of a folder, as `octoscale.evaluate.embedding.Images`.

    Args:
        paths: of the images in `store`.
        landmarks: float [m, 5, 2] in pixels; the images are aligned by them. None: they are aligned crops.
    """

    def __init__(self, paths: Sequence[str], store: Store, landmarks: NDArray[np.floating] | None = None) -> None:
        self._paths = paths
        self._store = store
        self._landmarks = landmarks

    @classmethod
    def named(
        cls,
        names: Sequence[str],
        directory: str,
        landmarks: NDArray[np.floating] | None = None,
        storage: StorageConfig = DEFAULT,
    ) -> "StoredImages":
        """The images of these names, without a suffix, below `directory`, a local path or URL.

        Raises:
            OctoscaleError: an image is missing, or there twice.
        """
        store = Store(directory, storage)
        found = look_up(names, store)
        missing = [name for name, path in zip(names, found, strict=True) if path is None]
        if missing:
            raise OctoscaleError(
                f"{directory} lacks {len(missing):,} of {len(names):,} images; the first: {missing[0]}"
            )
        return cls([path for path in found if path is not None], store, landmarks)

    def __len__(self) -> int:
        return len(self._paths)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        size = ALIGNED_SIZE if self._landmarks is not None else self._first[1]
        return len(self), 3, size, size

    @cached_property
    def _first(self) -> tuple[str, int]:
        """Name and height of the first image, which all others are to be as."""
        name = self._paths[0]
        return name, stack([name], [self._store.read(name)], self._store.url).shape[-1]

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """uint8 [len(rows), 3, size, size].

        Raises:
            OctoscaleError: an image cannot be read or decoded, or is of another size than the first.
        """
        paths = [self._paths[row] for row in rows.tolist()]
        encoded = self._store.read_many(paths)
        if self._landmarks is None:
            return stack(paths, encoded, self._store.url, self._first)
        aligned = [
            self._aligned(path, data, self._landmarks[row])
            for path, data, row in zip(paths, encoded, rows, strict=True)
        ]
        return torch.from_numpy(np.stack(aligned)).permute(0, 3, 1, 2)

    def _aligned(self, path: str, data: bytes, landmarks: NDArray[np.floating]) -> NDArray[np.uint8]:
        try:
            return align(decode_image(data), landmarks)
        except OctoscaleError as error:
            raise OctoscaleError(f"cannot align {path} in {self._store.url}: {error}") from error
