"""Batches of this rank, in the order of the plan, ready before they are asked for."""

import queue
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from octoscale.data.prefetch import READY_BATCHES, Arrivals, Everything
from octoscale.data.reader import ImageReader, Substitution
from octoscale.errors import OctoscaleError


@dataclass(frozen=True)
class Batch:
    """One rank's part of one global batch.

    Attributes:
        high: uint8 [n, 3, H, W], RGB, channels-last in memory.
        identities: int64 [n].
        sample_ids: int64 [n], as planned.
        substitutions: which planned images another one stands in for.
        queue_depth: how many batches were ready when this one was taken.
    """

    high: Tensor
    identities: Tensor
    sample_ids: Tensor
    substitutions: tuple[Substitution, ...] = ()
    queue_depth: int = 0

    def pin_memory(self) -> "Batch":
        pinned = (self.high.pin_memory(), self.identities.pin_memory(), self.sample_ids.pin_memory())
        return Batch(*pinned, self.substitutions)


def load_batches(
    reader: ImageReader, rows: Iterable[NDArray[np.integer]], *, workers: int, arrivals: Arrivals | None = None
) -> Generator[Batch, None, None]:
    """Read and decode the batches of `rows`, in order, in the background.

    A thread keeps up to `READY_BATCHES` ready and then waits. Closing the generator ends it and the workers.

    Args:
        rows: int [n] for each batch, sample ids: this rank's part of the plan; drawn from in the thread.
        workers: processes that decode; 0 decodes in the thread. The batches are the same for any number.
        arrivals: is asked before a batch is read, where the images have to come from elsewhere first.

    Raises:
        OctoscaleError: an image that cannot be had and has no substitute; also when a worker met it.
    """
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(READY_BATCHES)
    stop = threading.Event()
    thread = threading.Thread(
        target=_fill, args=(ready, stop, reader, rows, workers, arrivals or Everything()), name="loader", daemon=True
    )
    thread.start()
    try:
        while (batch := ready.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield Batch(batch.high, batch.identities, batch.sample_ids, batch.substitutions, ready.qsize())
    finally:
        stop.set()
        thread.join()


def _fill(
    ready: "queue.Queue[Batch | BaseException | None]",
    stop: threading.Event,
    reader: ImageReader,
    rows: Iterable[NDArray[np.integer]],
    workers: int,
    arrivals: Arrivals,
) -> None:
    def put(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    due = _Due(rows, arrivals, stop)
    loader = DataLoader(
        _Batches(reader),
        # Its annotation asks for lists; anything that `__getitems__` takes will do.
        batch_sampler=cast(Any, due),
        collate_fn=_as_is,
        num_workers=workers,
        # Object-store clients and CUDA do not survive a fork.
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_ignore_sigterm,
        pin_memory=torch.cuda.is_available(),
        # Without its own generator each epoch would draw a number from the global one.
        generator=torch.Generator(),
    )
    last: BaseException | None = None
    iterator = None
    try:
        iterator = iter(loader)
        # To the end also when it is not wanted any more: a worker that exits with a batch under way aborts.
        while (batch := next(iterator, None)) is not None:
            if isinstance(batch, OctoscaleError):
                raise batch
            put(batch)
    except OctoscaleError as error:
        last = error
    except BaseException as error:
        last = error
        # How the death of a worker shows depends on what it was doing.
        if workers and not due.failed and isinstance(error, (RuntimeError, EOFError, ConnectionError)):
            last = OctoscaleError(f"a data worker died ({error!r}); see whether this node ran out of memory")
    finally:
        # The last reference: the workers end now, not when the garbage is collected.
        del iterator
        put(last)


class _Due:
    """The rows of each batch, when its images are there."""

    def __init__(self, rows: Iterable[NDArray[np.integer]], arrivals: Arrivals, stop: threading.Event) -> None:
        self._rows = rows
        self._arrivals = arrivals
        self._stop = stop
        self.failed = False

    def __iter__(self) -> Iterator[NDArray[np.integer]]:
        try:
            yield from self._rows_due()
        except Exception:
            self.failed = True
            raise

    def _rows_due(self) -> Iterator[NDArray[np.integer]]:
        for row in self._rows:
            self._arrivals.wait_for(row, self._stop.is_set)
            if self._stop.is_set():
                return
            yield row


class _Batches(Dataset[Batch]):
    """The reader's images with their identities, a whole batch at a time."""

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader

    def __getitems__(self, sample_ids: NDArray[np.integer]) -> Batch | OctoscaleError:
        try:
            high, substitutions = self._reader.read_batch(sample_ids)
        except OctoscaleError as error:
            # As a value: the DataLoader would replace the message by a traceback of its worker.
            return error
        identities = self._reader.index.identity_of(sample_ids)
        return Batch(
            high, torch.from_numpy(identities), torch.from_numpy(sample_ids.astype(np.int64)), tuple(substitutions)
        )


def _ignore_sigterm(worker: int) -> None:
    # Schedulers send it to every process of a job: the run is to commit, and ends its workers itself.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _as_is(batch: Any) -> Any:
    # Already a batch: there is nothing left to collate.
    return batch
