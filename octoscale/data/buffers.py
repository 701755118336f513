"""Memory for the images of a batch: where a worker or a thread decodes them, and where the step gets them."""

import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octoscale.errors import OctoscaleError

_SHARED_MEMORY = Path("/dev/shm")


def new_images(shape: tuple[int, ...]) -> Tensor:
    """uint8, uninitialized; pinned where there is a GPU to copy it to."""
    if torch.cuda.is_available():
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
    # NumPy asks for huge pages: 0.1 ms to fill the memory of 256 images in a thread, not 2.8 ms.
    return torch.from_numpy(np.empty(shape, np.uint8))


class SharedBuffers:
    """A ring of buffers that this process and its workers share; can be pickled to a process that is started.

    Fresh shared memory for each batch would cost a fifth of the time of decoding it: the system clears every page.
    """

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        """Raises OctoscaleError where the system has less shared memory than `count` buffers of `shape` need."""
        needed_bytes = count * int(np.prod(shape))
        free_bytes = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else needed_bytes
        if free_bytes < needed_bytes:
            raise OctoscaleError(
                f"the data workers need {needed_bytes / 2**20:.0f} MiB of shared memory, {_SHARED_MEMORY} has "
                f"{free_bytes / 2**20:.0f} MiB free; give the container more (docker run --shm-size) or lower "
                "data.workers"
            )
        self._memory = torch.empty((count, *shape), dtype=torch.uint8).share_memory_()
        self._taken = 0

    def next(self) -> int:
        """The number of the buffer that was not used for the longest time."""
        self._taken += 1
        return (self._taken - 1) % len(self._memory)

    def view(self, number: int) -> NDArray[np.uint8]:
        """A buffer, to write to."""
        view: NDArray[np.uint8] = self._memory[number].numpy()
        return view

    def copy(self, number: int) -> Tensor:
        """What is in a buffer, in memory of this process."""
        return new_images(tuple(self._memory.shape[1:])).copy_(self._memory[number])
