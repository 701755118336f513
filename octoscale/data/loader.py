"""Batches of this rank, in the order of the plan, ready before they are asked for."""

import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from octoscale.data.buffers import SharedBuffers, new_images
from octoscale.data.prefetch import READY_BATCHES, Arrivals, Everything
from octoscale.data.reader import ImageReader, Substitution
from octoscale.errors import OctoscaleError

# Batches that each worker has to do.
_UNDER_WAY = 2


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


def load_batches(
    reader: ImageReader, rows: Iterable[NDArray[np.integer]], *, workers: int, arrivals: Arrivals | None = None
) -> Generator[Batch, None, None]:
    """Read and decode the batches of `rows`, in order, in the background.

    A thread keeps up to `READY_BATCHES` ready and then waits. Closing the generator ends it and the workers.

    Args:
        rows: int [n] for each batch, the same n for all, sample ids: this rank's part of the plan; drawn from in the
            thread.
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

    last: BaseException | None = None
    iterator = None
    due = None
    try:
        drawn = iter(rows)
        first = next(drawn, None)
        if first is None:
            return
        shape = reader.batch_shape(len(first))
        # Those that are under way, and the one that is being copied.
        shared = SharedBuffers(workers * _UNDER_WAY + 1, shape) if workers else None
        due = _Due(
            chain([first], drawn), arrivals, stop, (lambda: new_images(shape)) if shared is None else shared.next
        )
        iterator = iter(
            DataLoader(
                _Batches(reader, shared),
                # Its annotation asks for lists; anything that `__getitems__` takes will do.
                batch_sampler=cast(Any, due),
                collate_fn=_as_is,
                num_workers=workers,
                # Object-store clients and CUDA do not survive a fork.
                multiprocessing_context="spawn" if workers else None,
                prefetch_factor=_UNDER_WAY if workers else None,
                worker_init_fn=_ignore_sigterm,
                # Without its own generator each epoch would draw a number from the global one.
                generator=torch.Generator(),
            )
        )
        # To the end also when it is not wanted any more: a worker that exits with a batch under way aborts.
        while (read := next(iterator, None)) is not None:
            if isinstance(read, OctoscaleError):
                raise read
            put(_batch_of(reader, read, shared))
    except OctoscaleError as error:
        last = error
    except BaseException as error:
        last = error
        # How the death of a worker shows depends on what it was doing.
        died = isinstance(error, (RuntimeError, EOFError, ConnectionError))
        if workers and died and due is not None and not due.failed:
            last = OctoscaleError(f"a data worker died ({error!r}); see whether this node ran out of memory")
    finally:
        # The last reference: the workers end now, not when the garbage is collected.
        del iterator
        put(last)


def _batch_of(reader: ImageReader, read: "_Read", shared: SharedBuffers | None) -> Batch:
    images = read.place if isinstance(read.place, Tensor) else cast(SharedBuffers, shared).copy(read.place)
    identities = torch.from_numpy(reader.index.identity_of(read.sample_ids))
    sample_ids = torch.from_numpy(read.sample_ids.astype(np.int64))
    if images.is_pinned():
        identities, sample_ids = identities.pin_memory(), sample_ids.pin_memory()
    return Batch(images.permute(0, 3, 1, 2), identities, sample_ids, tuple(read.substitutions))


# Where a batch's images are written: here, or in the shared buffer of this number.
_Place = Tensor | int


class _Read(NamedTuple):
    """What a worker says of a batch whose images are in their place."""

    place: _Place
    sample_ids: NDArray[np.integer]
    substitutions: list[Substitution]


class _Due:
    """The place and the rows of each batch, when its images are there."""

    def __init__(
        self,
        rows: Iterable[NDArray[np.integer]],
        arrivals: Arrivals,
        stop: threading.Event,
        next_place: Callable[[], _Place],
    ) -> None:
        self._rows = rows
        self._arrivals = arrivals
        self._stop = stop
        self._next_place = next_place
        self.failed = False

    def __iter__(self) -> Iterator[tuple[_Place, NDArray[np.integer]]]:
        try:
            yield from self._rows_due()
        except Exception:
            self.failed = True
            raise

    def _rows_due(self) -> Iterator[tuple[_Place, NDArray[np.integer]]]:
        for row in self._rows:
            self._arrivals.wait_for(row, self._stop.is_set)
            if self._stop.is_set():
                return
            yield self._next_place(), row


class _Batches(Dataset[_Read]):
    """The images of the reader, a whole batch at a time, written to where they are to be."""

    def __init__(self, reader: ImageReader, shared: SharedBuffers | None) -> None:
        self._reader = reader
        self._shared = shared

    def __getitems__(self, due: tuple[_Place, NDArray[np.integer]]) -> _Read | OctoscaleError:
        place, sample_ids = due
        out = place.numpy() if isinstance(place, Tensor) else cast(SharedBuffers, self._shared).view(place)
        try:
            return _Read(place, sample_ids, self._reader.read_batch(sample_ids, out))
        except OctoscaleError as error:
            # As a value: the DataLoader would replace the message by a traceback of its worker.
            return error


def _ignore_sigterm(worker: int) -> None:
    # Schedulers send it to every process of a job: the run is to commit, and ends its workers itself.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _as_is(batch: Any) -> Any:
    # Already a batch: there is nothing left to collate.
    return batch
