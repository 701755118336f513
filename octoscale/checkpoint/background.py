"""One piece of work at a time, in a thread of its own."""

import threading
from collections.abc import Callable


class Background:
    """Runs work beside the main thread; what it raises is raised where it is waited for.

    The thread is a daemon: a process that ends by an error does not wait for it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether the work has ended with a fault, which `wait` will raise."""
        return self._fault is not None

    def start(self, work: Callable[[], None]) -> None:
        """Begin `work`; the work before it has been waited for."""
        assert self._thread is None
        self._thread = threading.Thread(target=self._run, args=(work,), name=self._name, daemon=True)
        self._thread.start()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Until the work is done, or the time is over; whether it is done. Raises what the work raised."""
        if self._thread is None:
            return True
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            return False
        self._thread = None
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
        return True

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # Any: it is raised again in `wait`.
            self._fault = error
