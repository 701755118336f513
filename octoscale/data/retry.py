"""Try again what failed for a while: full jitter, one deadline, every retry counted and logged with its cause."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from octoscale.data.objects import ExpiredError, TransientError

T = TypeVar("T")
logger = logging.getLogger(__name__)

_RENEWALS = 3
# Its own generator, seeded by the system: the pauses of many processes must differ, and the run's seeds stay untouched.
_random = Random()


# How often a pause looks for the wish to give up.
_LOOK_SECONDS = 0.05


class StoppedError(OSError):
    """Another part of the same operation has failed, or the caller wants no result any more."""


@dataclass(frozen=True)
class Backoff:
    """Pauses of AWS's "full jitter": uniform between 0 and ``min(cap, base · 2^n)``, so that a crowd spreads out."""

    base_seconds: float = 0.1
    cap_seconds: float = 10.0

    def pause_seconds(self, retry: int, random: Random = _random) -> float:
        """The pause before retry number `retry`, from 0."""
        return random.uniform(0.0, min(self.cap_seconds, self.base_seconds * 2.0 ** min(retry, 60)))


@dataclass
class OperationCounts:
    """Of one kind of operation in this process: tries of requests, those after the first, failures for good, bytes."""

    requests: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    """By cause: busy, connection, timeout, truncated, damaged, expired."""
    failures: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class Counters:
    """Counts per operation (read, download, write, list, look at, delete); safe for threads. For others to poll."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, OperationCounts] = {}

    def add(self, operation: str, *, requests: int = 0, retry: str | None = None, failures: int = 0,
            bytes_read: int = 0, bytes_written: int = 0) -> None:  # fmt: skip
        with self._lock:
            counts = self._counts.setdefault(operation, OperationCounts())
            counts.requests += requests
            counts.failures += failures
            counts.bytes_read += bytes_read
            counts.bytes_written += bytes_written
            if retry is not None:
                counts.retries[retry] += 1

    def snapshot(self) -> dict[str, OperationCounts]:
        """A copy of the counts since the process began."""
        with self._lock:
            return {
                operation: OperationCounts(
                    counts.requests, Counter(counts.retries), counts.failures, counts.bytes_read, counts.bytes_written
                )
                for operation, counts in self._counts.items()
            }


counters = Counters()


class Operation:
    """One operation of a store: its deadline, which all its requests share, and whether it was given up.

    The deadline counts from the last progress, so that a long transfer may take as long as it gets on.
    """

    def __init__(self, name: str, where: str, deadline_seconds: float, timeout_seconds: float,
                 backoff: Backoff | None = None, stop: threading.Event | None = None) -> None:  # fmt: skip
        """`stop`: once it is set, by whatever thread, nothing is begun or tried again."""
        self.name, self.where = name, where
        self._wish, self._deadline_seconds = stop, deadline_seconds
        self._backoff = backoff or Backoff()
        self._began = time.monotonic()
        self._ends = self._began + deadline_seconds
        self._timeout_seconds = timeout_seconds
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let requests of other threads end at their next failure instead of being tried again."""
        self._stopped.set()

    def progress(self) -> None:
        """A part of the work is done: what is left has the whole time limit again."""
        self._ends = time.monotonic() + self._deadline_seconds

    def is_stopped(self) -> bool:
        return self._stopped.is_set() or (self._wish is not None and self._wish.is_set())

    def check(self) -> None:
        """
        Raises:
            StoppedError: it was given up.
        """
        if self.is_stopped():
            raise StoppedError(f"{self.where} was given up")

    def left_seconds(self) -> float:
        """What a try that begins now may take: to the deadline, but at least one timeout."""
        return max(self._ends - time.monotonic(), self._timeout_seconds)

    def run(self, attempt: Callable[[float], T], renew: Callable[[], None]) -> T:
        """The result of ``attempt(seconds)``, tried until it succeeds, fails for good or the deadline has come.

        Args:
            renew: drops the client, called when the credentials have expired.

        Raises:
            OSError: as `attempt`; the last `TransientError` or `ExpiredError` when it was given up.
        """
        renewals = retry = 0
        failure: OSError
        while True:
            self.check()
            counters.add(self.name, requests=1)
            try:
                return attempt(self.left_seconds())
            except TransientError as error:
                # A copy: the original's traceback would keep the body of the failed try alive.
                cause, failure = error.cause, TransientError(error.cause, str(error))
            except ExpiredError as error:
                if renewals == _RENEWALS:
                    counters.add(self.name, failures=1)
                    raise
                renewals += 1
                cause, failure = "expired", ExpiredError(str(error))
                renew()
            except (FileExistsError, FileNotFoundError):
                raise  # An answer, not a failure.
            except OSError:
                counters.add(self.name, failures=1)
                raise
            self.check()
            pause = self._backoff.pause_seconds(retry)
            if time.monotonic() + pause >= self._ends:
                counters.add(self.name, failures=1)
                raise self._gave_up(failure, retry + 1)
            retry += 1
            counters.add(self.name, retry=cause)
            logger.info("%s %s: %s (%s); retry %d in %.2f s", self.name, self.where, cause, failure, retry, pause)
            self._pause(pause)

    def _pause(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not self.is_stopped() and (left := ends - time.monotonic()) > 0:
            self._stopped.wait(left if self._wish is None else min(left, _LOOK_SECONDS))

    def _gave_up(self, failure: OSError, tries: int) -> OSError:
        took = time.monotonic() - self._began
        text = f"{failure}; gave up after {tries} {'try' if tries == 1 else 'tries'} in {took:.1f} s"
        return ExpiredError(text) if isinstance(failure, ExpiredError) else TransientError("gave up", text)
