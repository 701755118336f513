"""Processes that are killed, kill -9, at a chosen call of the storage; forked from one that has loaded torch."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from typing import Any

from octoscale.data.storage import Store

CHANGES = ("write", "upload", "delete")


def kill_at(is_it: Callable[[int, str, str], bool], *, after: bool) -> None:
    """End this process before or after the change of any store for which ``is_it(number, method, name)``."""
    count = [0]

    def wrap(kind: str) -> None:
        method = getattr(Store, kind)

        def change(self: Store, *arguments: Any, **settings: Any) -> None:
            name = arguments[1] if kind == "upload" else arguments[0]
            chosen = is_it(count[0], kind, f"{self.url}/{name}")
            count[0] += 1
            if chosen and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            method(self, *arguments, **settings)
            if chosen:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(Store, kind, change)

    for kind in CHANGES:
        wrap(kind)


def in_process(function: Callable[..., None], *arguments: Any, timeout_seconds: float = 180) -> int:
    """``function(*arguments)``, a module's own, in a process of its own; its exit code, -9 when it was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["octoscale.train", __name__, function.__module__])
    process: ForkServerProcess = context.Process(target=function, args=arguments)
    process.start()
    process.join(timeout_seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{function.__name__} took more than {timeout_seconds} s")
    return process.exitcode
