"""An octoscale command in a process of its own: its events are handed on, and it can be asked to stop."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, Any

from octoscale.errors import EXIT_INTERRUPTED, OctoscaleError
from octoscale.interruption import Interruption

_COMMAND = [sys.executable, "-m", "octoscale.cli"]
_LOOK_SECONDS = 0.1
_LINES_KEPT = 20
_LAST_LINES_SECONDS = 5.0


class Wish(Interruption):
    """That what runs commits and ends, or that it ends at once."""

    def __init__(self) -> None:
        super().__init__()
        self._at_once = threading.Event()

    @property
    def at_once(self) -> bool:
        return self._at_once.is_set()

    def ask_at_once(self) -> None:
        self.ask()
        self._at_once.set()


class StoppedError(Exception):
    """What ran was asked to stop, and has ended in good order."""


def run_command(
    arguments: Sequence[str],
    wish: Wish,
    *,
    take: Callable[[dict[str, Any]], None],
    warn: Callable[[str], None],
) -> None:
    """Run ``octoscale ARGUMENTS --json --quiet`` to its end.

    Args:
        wish: when it is asked, the process gets SIGTERM, and ends when it has committed; at once: SIGKILL, with all
            that it has started.
        take: called with each of its events, from another thread.
        warn: called with each line of its stderr, and each of its stdout that is no event, from another thread.

    Raises:
        StoppedError: it was asked to stop, here or from outside.
        OctoscaleError: it has failed; the message is its own.
    """
    process = subprocess.Popen(
        [*_COMMAND, *arguments, "--json", "--quiet"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        # Ctrl-C in a terminal goes to every process of the session, and would end this one before it has committed.
        start_new_session=True,
    )  # fmt: skip
    told, last = _Told(take, warn), deque[str](maxlen=_LINES_KEPT)

    def line(text: str) -> None:
        last.append(text)
        if not text.startswith("error: "):
            warn(text)

    assert process.stdout is not None
    assert process.stderr is not None
    readers = [_reading(process.stdout, told), _reading(process.stderr, line)]
    asked = False
    try:
        while process.poll() is None:
            time.sleep(_LOOK_SECONDS)
            if wish.asked and not asked:
                process.terminate()
                asked = True
            if wish.at_once:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        for reader in readers:
            # A grandchild that has outlived it may hold the pipe open for ever.
            reader.join(_LAST_LINES_SECONDS)
    if process.returncode == EXIT_INTERRUPTED or (asked and process.returncode != 0):
        raise StoppedError
    if process.returncode:
        message = told.error or "\n".join(last) or "it said nothing"
        raise OctoscaleError(f"exit code {process.returncode}: {message}")


class _Told:
    """Takes lines of ``--json``; keeps the last error among them."""

    def __init__(self, take: Callable[[dict[str, Any]], None], warn: Callable[[str], None]) -> None:
        self._take, self._warn = take, warn
        self.error: str | None = None

    def __call__(self, text: str) -> None:
        try:
            event = json.loads(text)
        except ValueError:
            event = None
        if not isinstance(event, dict) or "event" not in event:
            # Some library's; the events go on after it.
            self._warn(text)
            return
        if event["event"] == "error":
            self.error = event["message"]
        self._take(event)


def _reading(stream: IO[str], take: Callable[[str], None]) -> threading.Thread:
    def read() -> None:
        with stream:
            for text in stream:
                if stripped := text.rstrip():
                    take(stripped)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread
