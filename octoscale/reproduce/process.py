"""An octoscale command in a process of its own: its events are handed on, and it can be asked to stop."""

import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, Any

from octoscale.errors import EXIT_INTERRUPTED, OctoscaleError
from octoscale.interruption import Interruption

_LOOK_SECONDS = 0.1
_LINES_KEPT = 20


class StoppedError(Exception):
    """What ran was asked to stop, and has ended in good order."""


def run_command(
    arguments: Sequence[str],
    wish: Interruption,
    *,
    take: Callable[[dict[str, Any]], None],
    warn: Callable[[str], None],
) -> None:
    """Run ``octoscale ARGUMENTS --json --quiet`` to its end.

    Args:
        wish: when it is asked, the process gets SIGTERM, and ends when it has committed.
        take: called with each of its events, from another thread.
        warn: called with each line of its stderr, from another thread.

    Raises:
        StoppedError: it was asked to stop, here or from outside.
        OctoscaleError: it has failed; the message is its own.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "octoscale.cli", *arguments, "--json", "--quiet"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Ctrl-C in a terminal goes to every process of the session, and would end this one before it has committed.
        start_new_session=True,
    )  # fmt: skip
    told, last = _Told(take), deque[str](maxlen=_LINES_KEPT)

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
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        for reader in readers:
            reader.join()
    if process.returncode == EXIT_INTERRUPTED or (asked and process.returncode != 0):
        raise StoppedError
    if process.returncode:
        message = told.error or "\n".join(last) or "it said nothing"
        raise OctoscaleError(f"exit code {process.returncode}: {message}")


class _Told:
    """Takes lines of ``--json``; keeps the last error among them."""

    def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
        self._take = take
        self.error: str | None = None

    def __call__(self, text: str) -> None:
        event = json.loads(text)
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
