"""Batches of this rank, in the order of the plan."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from octoscale.data.reader import ImageReader
from octoscale.errors import OctoscaleError


@dataclass(frozen=True)
class Batch:
    """One rank's part of one global batch.

    Attributes:
        high: uint8 [n, 3, H, W], RGB, channels-last in memory.
        identities: int64 [n].
        sample_ids: int64 [n].
    """

    high: Tensor
    identities: Tensor
    sample_ids: Tensor

    def pin_memory(self) -> "Batch":
        return Batch(self.high.pin_memory(), self.identities.pin_memory(), self.sample_ids.pin_memory())


def load_batches(reader: ImageReader, rows: NDArray[np.int64], *, workers: int, prefetch: int = 4) -> Iterator[Batch]:
    """Read and decode the batches of `rows`, in order.

    Args:
        rows: int64 [batches, n], sample ids: this rank's part of the plan.
        workers: processes that decode; 0 decodes in this one. The batches are the same for any number.
        prefetch: batches that each worker keeps ready.

    Raises:
        OctoscaleError: a damaged image; also when a worker met it.
    """
    loader = DataLoader(
        _Batches(reader),
        batch_sampler=rows,
        collate_fn=_as_is,
        num_workers=workers,
        # Object-store clients and CUDA do not survive a fork.
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=prefetch if workers else None,
        worker_init_fn=_ignore_sigterm,
        pin_memory=torch.cuda.is_available(),
        # Without its own generator each epoch would draw a number from the global one.
        generator=torch.Generator(),
    )
    iterator = iter(loader)
    try:
        while (batch := next(iterator, None)) is not None:
            if isinstance(batch, OctoscaleError):
                raise batch
            yield batch
    finally:
        # The last reference: the workers end now, not when the garbage is collected.
        del iterator


class _Batches(Dataset[Batch]):
    """The reader's images with their identities, a whole batch at a time."""

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader

    def __getitems__(self, sample_ids: NDArray[np.int64]) -> Batch | OctoscaleError:
        try:
            high = self._reader.__getitems__(sample_ids)
        except OctoscaleError as error:
            # As a value: the DataLoader would replace the message by a traceback of its worker.
            return error
        identities = self._reader.index.identity_of(sample_ids)
        return Batch(high, torch.from_numpy(identities), torch.from_numpy(np.array(sample_ids)))


def _ignore_sigterm(worker: int) -> None:
    # Schedulers send it to every process of a job: the run is to commit, and ends its workers itself.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _as_is(batch: Any) -> Any:
    # Already a batch: there is nothing left to collate.
    return batch
