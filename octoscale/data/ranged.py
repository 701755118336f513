"""One object in many ranges, fetched in parallel and checked to belong to one version of it."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from octoscale.data.objects import Head, Part, RangeError
from octoscale.data.retry import Operation, StoppedError

T = TypeVar("T")


class ChangedError(OSError):
    """The object was replaced or deleted while it was read, or is not as long as expected."""


class Version:
    """The one version of an object that all its parts must come from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.head: Head | None = None

    def check(self, get: Callable[[], Part]) -> bytes:
        """The bytes of a part.

        Raises:
            ChangedError: the object is not the one that the parts before came from.
        """
        try:
            part = get()
        except FileNotFoundError:
            if self.head is None:
                raise
            raise ChangedError("it was deleted while it was read") from None
        with self._lock:
            self.head = self.head or part.head
            if part.head is not None and part.head != self.head:
                raise ChangedError("it was replaced while it was read")
        return part.data


def in_parallel(jobs: Sequence[Callable[[], T]], operation: Operation, connections: int) -> list[T]:
    """The results of `jobs`, in order, run by at most `connections` threads that end before this returns.

    Raises:
        OSError: the first failure; the other jobs of `operation` are stopped.
    """
    if len(jobs) < 2:
        return [job() for job in jobs]
    with ThreadPoolExecutor(min(connections, len(jobs)), thread_name_prefix="octoscale-storage") as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failures = [error for future in futures if future.done() and (error := future.exception())]
            for failure in failures:
                if not isinstance(failure, StoppedError):
                    raise failure
        except BaseException:
            operation.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def fetch(
    get: Callable[[int, int], Part],
    head: Callable[[], Head],
    sink: Callable[[int, bytes], None],
    operation: Operation,
    *,
    part_bytes: int,
    connections: int,
    size_bytes: int | None = None,
) -> None:
    """Hand a whole object to ``sink(offset, bytes)`` in parts, from many threads and in any order.

    Args:
        get: the part of ``[start, end)``; its head may be unknown, then `head` is asked before and after.
        size_bytes: the expected length, where known: then no request has to come first to learn it.

    Raises:
        ChangedError: the object changed on the way, or has another length.
    """
    version = Version()

    def part(start: int, end: int) -> int:
        try:
            data = version.check(lambda: get(start, end))
        except RangeError:
            raise ChangedError(f"it has fewer bytes than {start + 1}") from None
        sink(start, data)
        return len(data)

    came, begin = 0, 0
    if size_bytes is None:
        came = begin = part(0, part_bytes)
        if version.head is None and came == part_bytes:
            version.head = head()
        size = version.head.size_bytes if version.head else came
    else:
        size = size_bytes
    starts = range(begin, size, part_bytes) if came or size else [0]
    ends = [max(min(start + part_bytes, size), 1) for start in starts]
    jobs = [partial(part, start, end) for start, end in zip(starts, ends, strict=True)]
    came += sum(in_parallel(jobs, operation, connections))
    known = version.head.size_bytes if version.head else came
    if came != size or known != size:
        raise ChangedError(f"it has {known} bytes, not the expected {size}")


def all_pages(page: Callable[[str | None], tuple[Sequence[str], str | None]], operation: Operation) -> list[str]:
    """What ``page(after)`` gives, page by page: the names on it, and what to give for the next one."""
    first, after = page(None)
    found = list(first)
    while after is not None:
        operation.progress()
        more, after = page(after)
        found += more
    return found


def copy_file(source: Path, local_path: Path, operation: Operation, part_bytes: int) -> None:
    """Copy a local file, until it is done or `operation` is stopped."""
    with source.open("rb") as file, local_path.open("wb") as copy:
        while data := file.read(part_bytes):
            operation.check()
            copy.write(data)


def write_at(descriptor: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
