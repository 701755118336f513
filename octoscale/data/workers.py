"""A function over many tasks in spawned processes: results in order, memory bounded."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from octoscale.errors import OctoscaleError

Task = TypeVar("Task")
Result = TypeVar("Result")
# Enough that no process waits while the first result is looked at.
_TASKS_PER_WORKER = 2


class Workers:
    """Processes for one piece of work after another; a context manager that ends them.

    One worker is this process. More are spawned, never forked: object-store clients do not survive a fork.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        if self._count > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, mp_context=context, initializer=_set_up_worker)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The results of `tasks`, in their order, whatever the number of processes.

        No more than two tasks per worker are in flight, so tasks may come from a generator and results may be large.

        Raises:
            OctoscaleError: a process died (killed by the system, out of memory).
        """
        if self._pool is None:
            yield from map(function, tasks)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self._pool.submit(function, task))
                if len(waiting) >= _TASKS_PER_WORKER * self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise OctoscaleError(
                f"one of {self._count} worker processes died, perhaps for want of memory; use fewer workers"
            ) from error


def _set_up_worker() -> None:
    # Ctrl-C goes to the whole process group; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        # A parent that was killed cannot end its workers, and they would wait for tasks forever.
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
