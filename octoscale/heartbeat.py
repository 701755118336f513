"""Signs of life of an attempt, in the run's directory: how far it got and when it ended, for the next one to know.

heartbeats/A.json   the newest of attempt A, from its first step on
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from pydantic import ValidationError

from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError
from octoscale.settings import Settings

logger = logging.getLogger(__name__)

_FOLDER = "heartbeats"
_NAME = re.compile(rf"{_FOLDER}/(\d{{6,}})\.json")
# The last sign of an attempt that fails: for a storage that answers, not for one that is away.
_PATIENCE_SECONDS = 1.0


class Heartbeat(Settings):
    """The last that an attempt told.

    Attributes:
        step: optimizer steps of the run that it had done.
        time: when it told, Unix time.
        reached: the most steps that it or an attempt before it had done.
        checkpoint_failures: commits that failed, of it and all attempts before it.
    """

    attempt: int
    step: int
    time: float
    reached: int
    checkpoint_failures: int = 0

    @property
    def name(self) -> str:
        return f"{_FOLDER}/{self.attempt:06d}.json"


def last_heartbeat(store: Store, attempt: int) -> Heartbeat | None:
    """The sign of life of the newest attempt before `attempt`; None where there is none that can be read."""
    with suppress(OctoscaleError, ValidationError):
        names = _names_before(store, attempt)
        if names:
            return Heartbeat.model_validate_json(store.read(names[-1]))
    return None


class Heart:
    """Tells how far an attempt is, in a thread that the training never waits for; from its first step on.

    A storage that fails costs the next attempt its knowledge, and nothing else.
    """

    def __init__(
        self, store: Store, attempt: int, former: Heartbeat | None, failures: Callable[[], int], *, every_seconds: float
    ) -> None:
        """`former`: of the attempt before; `failures`: how many commits have failed, over all attempts."""
        self._store = store
        self._attempt = attempt
        self._reached = 0 if former is None else former.reached
        self._failures = failures
        self._every_seconds = every_seconds
        self._step = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def step(self, step: int) -> None:
        """`step` optimizer steps of the run are done."""
        self._step = step
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Tell a last time, if that takes no time."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_SECONDS)

    def _run(self) -> None:
        alone = False
        while True:
            over = self._over.is_set()
            try:
                self._tell()
                if not alone:
                    # Only now: an attempt that dies before its first step leaves them to the next one.
                    self._delete_earlier()
                    alone = True
            except OctoscaleError as error:
                logger.warning("no sign of life; the next attempt may not know how far this one got: %s", error)
            if over:
                return
            self._over.wait(self._every_seconds)

    def _tell(self) -> None:
        step = self._step
        beat = Heartbeat(
            attempt=self._attempt, step=step, time=time.time(), reached=max(self._reached, step),
            checkpoint_failures=self._failures(),
        )  # fmt: skip
        self._store.write(beat.name, beat.model_dump_json().encode())

    def _delete_earlier(self) -> None:
        for name in _names_before(self._store, self._attempt):
            self._store.delete(name)


def _names_before(store: Store, attempt: int) -> list[str]:
    """Of earlier attempts, oldest first."""
    found = [(int(match[1]), match[0]) for match in map(_NAME.fullmatch, store.list(_FOLDER)) if match]
    return [name for number, name in sorted(found) if number < attempt]
