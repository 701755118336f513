"""SIGTERM as a wish: the run commits at the next step and ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether this process was asked to end."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def ask(self, signum: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        self._asked.set()


@contextmanager
def interruption(wish: Interruption | None = None) -> Iterator[Interruption]:
    """Catch SIGTERM while the block runs; a `wish` that the caller has may also be asked otherwise.

    Outside a process's main thread (Ray runs the training function in another) no handler can be set, and
    the caller's wish is what counts.
    """
    wish = wish or Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = signal.signal(signal.SIGTERM, wish.ask)
    try:
        yield wish
    finally:
        # None: a handler that Python did not set and cannot put back.
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
