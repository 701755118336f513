"""Where a command tells what it does: text for people on stderr, objects for programs on stdout."""

import json
import logging
import math
import threading
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from rich.console import Console

logger = logging.getLogger(__name__)


class Tell(Protocol):
    """Called with the name of an event and its values, which are JSON."""

    def __call__(self, event: str, /, **values: Any) -> None:
        """Something has happened. From any thread."""


def silent(event: str, /, **values: Any) -> None:
    """Nobody listens."""


class Output:
    """What a command has beside its results.

    Attributes:
        console: for people, stderr.
        quiet: only warnings there.
    """

    def __init__(self, console: Console, *, quiet: bool = False, events: TextIO | None = None) -> None:
        """`events` takes an object a line; None: nobody asked for them."""
        self.console = console
        self.quiet = quiet
        self._events = events
        self._lock = threading.Lock()

    @property
    def has_events(self) -> bool:
        """Whether results are wanted as objects, not as text."""
        return self._events is not None

    def event(self, event: str, /, **values: Any) -> None:
        """One object on a line of its own. A reader that has gone ends them, not the command. From any thread."""
        with self._lock:
            if self._events is None:
                return
            try:
                self._events.write(line_of(event, values))
                self._events.flush()
            except OSError as error:
                self._events = None
                logger.warning("no more events: %s", error.strerror)


def line_of(event: str, values: Mapping[str, Any]) -> str:
    """``{"event": …}`` and a line's end. What is no number, NaN or infinite, is null."""
    return json.dumps({"event": event, **_finite(values)}, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
