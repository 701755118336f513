"""Objects under a URL: a local folder or an object store, one interface."""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from octoscale.data.clients import Clients
from octoscale.data.objects import (
    DELETED_AT_ONCE,
    Head,
    Objects,
    Part,
    RangeError,
    TransientError,
    holds,
    is_object,
    remaining,
)
from octoscale.data.objects_local import LocalObjects
from octoscale.data.ranged import Version, all_pages, copy_file, fetch, in_parallel, removed_on_failure, write_at
from octoscale.data.retry import Operation, counters
from octoscale.data.storage_config import StorageConfig, is_local, redacted
from octoscale.data.storage_errors import told

T = TypeVar("T")
DEFAULT = StorageConfig()

# An upload slower than this counts as stalled: clients notice a server's silence, but not that it takes nothing in.
_LEAST_BYTES_PER_SECOND = 256 * 1024
_ACTIONS = {"download": "read", "upload": "write", "info": "look at"}


@dataclass(frozen=True)
class Store:
    """The objects under `url`. Names are relative to it and use ``/``.

    Only the URL and the configuration are kept, so that a store can be sent to another process; clients are
    opened when used, once per process. Credentials come from the provider's usual chain. Requests to an object
    store are tried again until ``config.deadline_seconds`` have passed without progress (a part, a page of a listing);
    none waits longer than that and one timeout more.
    What arrives has the announced length; that its bytes are the right ones is for the caller's checksums to say.

    Every method raises `OctoscaleError` for a missing object, a refused permission, an unreachable server, an unknown
    scheme or a missing package.
    """

    url: str
    config: StorageConfig = DEFAULT

    def __post_init__(self) -> None:
        self.config.check(self.url)

    @property
    def is_local(self) -> bool:
        return is_local(self.url)

    def local_path(self, name: str = "") -> Path:
        """The path of `name` in a local store."""
        assert self.is_local, self.url
        root = self.url.split("://", 1)[-1]
        return Path(root).expanduser().absolute() / name

    def child(self, name: str) -> "Store":
        """The store of everything under ``name/``."""
        return Store(self._where(name), self.config)

    def read(self, name: str) -> bytes:
        """The whole object; a large one is fetched in parts."""
        with self._operation("read", name) as operation:
            return self._read(name, operation)

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """The objects of `names`, in order; fetched concurrently from an object store."""
        if self.is_local or not names:
            # One after the other, so that an error names the one.
            return [self.read(name) for name in names]
        with self._operation("read", f"{names[0]} … {names[-1]}" if len(names) > 1 else names[0]) as operation:
            return in_parallel([partial(self._read, name, operation) for name in names], operation, self._threads)

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Bytes ``[start, end)`` of `name`; fewer where the object ends before."""
        return self.read_ranges(name, [(start, end)])[0]

    def read_ranges(
        self, name: str, ranges: Sequence[tuple[int, int]], *, stop: threading.Event | None = None
    ) -> list[bytes]:
        """Bytes ``[start, end)`` of `name` for every range, in order, all of one version; fetched concurrently.

        Args:
            stop: set by another thread it ends this soon, with an error.
        """
        with self._operation("read", name, stop=stop) as operation:
            version = Version()

            def part(start: int, end: int) -> bytes:
                return version.check(lambda: self._get(operation, name, start, end)) if start < end else b""

            jobs = [partial(part, start, end) for start, end in ranges]
            return in_parallel(jobs, operation, self._threads)

    def download(
        self, name: str, local_path: Path, size_bytes: int | None = None, *, stop: threading.Event | None = None
    ) -> None:
        """Copy `name` to a local file, in parts (not atomic: give a temporary path and rename it).

        On failure the file is removed. Memory: at most ``connections × part_bytes`` of the configuration.

        Args:
            size_bytes: the expected length where known; saves the wait for the first part.
            stop: set by another thread it ends this soon, with an error.
        """
        with self._operation("download", name, stop=stop) as operation, removed_on_failure(local_path):
            if self.is_local:
                copy_file(self.local_path(name), local_path, operation, self.config.part_bytes)
                if size_bytes not in (None, local_path.stat().st_size):
                    raise OSError(f"it has {local_path.stat().st_size} bytes, not the expected {size_bytes}")
                return
            with local_path.open("wb") as file:
                self._fetch(name, operation, lambda offset, data: write_at(file.fileno(), offset, data), size_bytes)

    def write(self, name: str, data: bytes, *, exclusive: bool = False) -> None:
        """Write `data`; a reader sees all of it or none.

        After a try whose outcome is unknown, an object that holds exactly `data` counts as this one's.

        Raises:
            FileExistsError: `exclusive` and `name` exists already (nothing is changed).
        """
        unknown_outcome = False

        def put(objects: Objects, seconds: float) -> None:
            nonlocal unknown_outcome
            left = remaining(seconds)
            try:
                objects.put(self._path(name), data, exclusive, min(seconds, self._upload_seconds(len(data))))
            except TransientError:
                unknown_outcome = True
                raise
            except FileExistsError:
                if not (unknown_outcome and holds(objects, self._path(name), data, left())):
                    raise

        with self._operation("write", name) as operation:
            self._ask(operation, put)
            counters.add("write", bytes_written=len(data))

    def upload(self, local_path: Path, name: str) -> None:
        """Copy a local file to `name`; a reader sees all of it or none."""

        def put(objects: Objects, seconds: float) -> None:
            objects.put_file(self._path(name), local_path, min(seconds, self._upload_seconds(size_bytes)))

        with self._operation("upload", name) as operation:
            size_bytes = local_path.stat().st_size
            self._ask(operation, put)
            counters.add("upload", bytes_written=size_bytes)

    def exists(self, name: str = "") -> bool:
        """Whether `name` is an object or a folder with objects."""

        def look(objects: Objects, seconds: float) -> bool:
            left = remaining(seconds)
            return is_object(objects, self._path(name), seconds) or objects.is_folder(self._path(name), left())

        with self._operation("info", name) as operation:
            try:
                return self._ask(operation, look)
            except FileNotFoundError:  # Not even the bucket.
                return False

    def size(self, name: str) -> int:
        """The length of `name` in bytes."""
        with self._operation("info", name, action="read") as operation:
            return self._head(operation, name).size_bytes

    def list(self, folder: str = "") -> list[str]:
        """Names of all objects under `folder`, at any depth, sorted; empty where there is no such folder.

        Always asks the store, never a cache. Names are relative to the URL of this store.
        """
        with self._operation("list", folder) as operation:
            try:
                paths = self._paths(operation, self._path(folder))
            except FileNotFoundError:
                return []
        root, inside = f"{self._path()}/", f"{self._path(folder)}/"
        # A listing of an object's own name may hold that object; a marker object ends in "/".
        return sorted(path[len(root) :] for path in paths if path.startswith(inside) and not path.endswith("/"))

    def delete(self, name: str) -> None:
        """Delete the object `name` and everything under ``name/``; nothing to delete is no error."""
        path = self._path(name)
        with self._operation("delete", name) as operation:
            found = [path] if self.is_local else [*self._paths(operation, path)]
            known = not name or path in found
            if not known and self._ask(operation, lambda objects, seconds: is_object(objects, path, seconds)):
                found.append(path)
            for start in range(0, len(found), DELETED_AT_ONCE):
                self._ask(operation, partial(_delete, found[start : start + DELETED_AT_ONCE]))
                operation.progress()

    def probe_writable(self) -> None:
        """Write and delete a tiny object, so that a wrong URL fails before the work and not after it.

        Tried for ``2 × timeout_seconds`` at most: who has just started a run waits for the answer.
        """
        seconds = min(self.config.deadline_seconds, 2 * self.config.timeout_seconds)
        store = Store(self.url, self.config.model_copy(update={"deadline_seconds": seconds}))
        name = f".octoscale-probe-{uuid.uuid4().hex}"
        store.write(name, b"probe")
        store.delete(name)

    @property
    def _threads(self) -> int:
        return 1 if self.is_local else self.config.connections

    def _upload_seconds(self, size_bytes: int) -> float:
        return self.config.timeout_seconds + size_bytes / _LEAST_BYTES_PER_SECOND

    def _where(self, name: str) -> str:
        return f"{self.url.rstrip('/')}/{name}" if name else self.url

    def _path(self, name: str = "") -> str:
        """What a backend calls `name`."""
        if self.is_local:
            return str(self.local_path(name))
        root = self.url.split("://", 1)[1].rstrip("/")
        return f"{root}/{name}" if name else root

    def _ask(self, operation: Operation, ask: Callable[[Objects, float], T]) -> T:
        """The answer to one request, tried again as long as it is worth it."""
        if self.is_local:
            operation.check()
            return ask(LocalObjects(), 0.0)
        used: Objects | None = None

        def attempt(seconds: float) -> T:
            nonlocal used
            used = _clients.get(self.url, self.config)
            with _clients.slot(self.config, seconds, operation.is_stopped):
                return ask(used, operation.left_seconds())

        return operation.run(attempt, lambda: _clients.drop(used))

    def _get(self, operation: Operation, name: str, start: int, end: int) -> Part:
        try:
            part = self._ask(operation, lambda objects, seconds: objects.get(self._path(name), start, end, seconds))
        except RangeError:
            # Of an empty object every range lies behind its end.
            return Part(b"", Head(0) if start == 0 else None)
        operation.progress()
        if not self.is_local:
            counters.add(operation.name, bytes_read=len(part.data))
        return part

    def _paths(self, operation: Operation, path: str) -> Sequence[str]:
        """All paths under ``path/``; each page of them is tried by itself."""

        def page(after: str | None) -> tuple[Sequence[str], str | None]:
            return self._ask(operation, lambda objects, seconds: objects.page(path, after, seconds))

        return all_pages(page, operation)

    def _head(self, operation: Operation, name: str) -> Head:
        return self._ask(operation, lambda objects, seconds: objects.head(self._path(name), seconds))

    def _read(self, name: str, operation: Operation) -> bytes:
        if self.is_local:
            return self.local_path(name).read_bytes()
        parts: dict[int, bytes] = {}
        self._fetch(name, operation, parts.__setitem__, None)
        return b"".join(parts[offset] for offset in sorted(parts))

    def _fetch(self, name: str, operation: Operation, sink: Callable[[int, bytes], None], size: int | None) -> None:
        fetch(
            lambda start, end: self._get(operation, name, start, end),
            lambda: self._head(operation, name),
            sink, operation, part_bytes=self.config.part_bytes, connections=self._threads, size_bytes=size,
        )  # fmt: skip

    @contextmanager
    def _operation(
        self, kind: str, name: str, *, action: str | None = None, stop: threading.Event | None = None
    ) -> Iterator[Operation]:
        """An operation with its deadline; its failures become one sentence for the user."""
        where, config = redacted(self._where(name)), self.config
        with told(action or _ACTIONS.get(kind, kind), where, config):
            yield Operation(kind, where, config.deadline_seconds, config.timeout_seconds, stop=stop)


def _delete(paths: Sequence[str], objects: Objects, seconds: float) -> None:
    objects.delete(paths, seconds)


_clients = Clients()
forget_clients = _clients.forget
"""For tests: the next request reads the environment anew."""
