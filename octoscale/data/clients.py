"""The open clients of this process, and how many requests they may have under way."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from octoscale.data.objects import Objects, TransientError
from octoscale.data.storage_config import S3_SCHEMES, StorageConfig, scheme_of


class Clients:
    """The clients of this process. None survives a change of process, nor credentials that have expired."""

    def __init__(self, opened: Callable[[str, StorageConfig], Objects]) -> None:
        self._opened = opened
        self._lock = threading.Lock()
        self._open: dict[Any, Objects] = {}
        self._slots: dict[StorageConfig, threading.BoundedSemaphore] = {}
        os.register_at_fork(after_in_child=self.forget)

    def get(self, url: str, config: StorageConfig) -> Objects:
        scheme, host = scheme_of(url), url.split("://", 1)[1].split("/")[0]
        # One S3 client for all buckets; another filesystem may take its account from the URL.
        key = (scheme, config) if scheme in S3_SCHEMES or config.backend == "obstore" else (scheme, host, config)
        with self._lock:
            if key not in self._open:
                self._open[key] = self._opened(f"{scheme}://{host}", config)
            return self._open[key]

    def drop(self, objects: Objects | None) -> None:
        """Forget a client, unless another thread already has."""
        with self._lock:
            self._open = {key: kept for key, kept in self._open.items() if kept is not objects}

    @contextmanager
    def slot(self, config: StorageConfig, seconds: float) -> Iterator[None]:
        """One of the process's connections."""
        with self._lock:
            slots = self._slots.setdefault(config, threading.BoundedSemaphore(config.connections))
        if not slots.acquire(timeout=seconds):
            raise TransientError("busy", f"all {config.connections} connections were taken for {seconds:.1f} s")
        try:
            yield
        finally:
            slots.release()

    def forget(self) -> None:
        """Let every request read the environment anew; after a fork, the locks of the parent's threads are void too."""
        self._lock = threading.Lock()
        self._open = {}
        self._slots = {}
