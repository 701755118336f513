"""What a store asks of a backend: one try of one request, and its failure in words that say whether to try again."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
DELETED_AT_ONCE = 1000

# The server says so in the answer's body; a HEAD has none, so backends ask again with a GET.
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded", "OperationAborted",
         "ConditionalRequestConflict", "IncompleteBody", "InternalError", "ServiceUnavailable"}  # fmt: skip


class TransientError(OSError):
    """Worth another try. `cause` is one word for counters: busy, connection, timeout, truncated, damaged."""

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


class ExpiredError(OSError):
    """The credentials ran out: a new client may find newer ones."""


class RangeError(OSError):
    """The range begins at or after the object's end."""


@dataclass(frozen=True)
class Head:
    """An object as the store knows it. Equal values: nothing was written in between."""

    size_bytes: int
    etag: str | None = None


@dataclass(frozen=True)
class Part:
    """The bytes of a range; the object's head where the answer told it."""

    data: bytes
    head: Head | None = None


class Objects(Protocol):
    """One try each, at most `seconds` long. Paths are what follows ``scheme://``.

    Raises of every method: `TransientError`, `ExpiredError`, or for good FileNotFoundError, PermissionError,
    another OSError. Texts hold no credentials.
    """

    def head(self, path: str, seconds: float) -> Head:
        """FileNotFoundError: no such object (a folder is none)."""

    def is_folder(self, path: str, seconds: float) -> bool:
        """Whether there are objects under ``path/``, or `path` is a bucket."""

    def get(self, path: str, start: int, end: int | None, seconds: float) -> Part:
        """Bytes ``[start, end)``, fewer where the object ends before. RangeError: it ends at or before `start`."""

    def put(self, path: str, data: bytes, exclusive: bool, seconds: float) -> None:
        """FileExistsError: `exclusive` and there is such an object."""

    def put_file(self, path: str, local_path: Path, seconds: float) -> None: ...

    def page(self, path: str, after: str | None, seconds: float) -> tuple[list[str], str | None]:
        """Paths of objects under ``path/`` in any order, and what to give as `after` for more; None at the end."""

    def delete(self, paths: Sequence[str], seconds: float) -> None:
        """At most `DELETED_AT_ONCE` objects of one bucket; absent ones are no error."""


def refusal(status: int, code: str, message: str) -> OSError:
    """The error for a server's answer of HTTP `status`; `code` as in S3's XML, or empty."""
    text = f"{message or 'no reason given'} (HTTP {status}{f' {code}' if code and not code.isdigit() else ''})"
    if code in _EXPIRED:
        return ExpiredError(text)
    if code in _BUSY or status in (408, 429) or (status >= 500 and status != 501):
        return TransientError("busy", text)
    kinds: dict[int, type[OSError]] = {
        401: PermissionError, 403: PermissionError, 404: FileNotFoundError, 412: FileExistsError, 416: RangeError
    }  # fmt: skip
    return kinds.get(status, OSError)(text)


def short_by(expected_bytes: int, data: bytes) -> None:
    """Refuse a body that is not as long as announced."""
    if len(data) != expected_bytes:
        raise TransientError("truncated", f"{len(data)} of {expected_bytes} bytes came")


def wait(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
    """The coroutine's result; it runs on `loop`, which another thread turns, and is cancelled after `seconds`."""
    future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, seconds), loop)
    try:
        return future.result()
    except TimeoutError as error:
        raise TransientError("timeout", str(error) or f"no end within {seconds:.1f} s") from error
    except BaseException:
        future.cancel()
        raise


def remaining(seconds: float) -> Callable[[], float]:
    """What is left of `seconds` from now on, for the requests of one try."""
    ends = time.monotonic() + seconds
    return lambda: max(ends - time.monotonic(), 0.0)


def is_object(objects: Objects, path: str, seconds: float) -> bool:
    try:
        objects.head(path, seconds)
    except FileNotFoundError:
        return False
    return True


def holds(objects: Objects, path: str, data: bytes, seconds: float) -> bool:
    try:
        return objects.get(path, 0, None, seconds).data == data
    except RangeError:
        return not data
