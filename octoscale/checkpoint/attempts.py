"""Attempts of a run, numbered: the newest alone may commit, and says which earlier commits it goes on from.

    attempts/A.json           the claim of number A, written only if it does not exist
    attempts/A-inherits.json  the commits that were there after the claim

A process that was cut off and lives on (a zombie) finds a higher number before it commits, and ends. If it looked
just before the claim, its commit is in no list, and does not count. It looks again before it deletes: a claim that
came later found its new commit in the listing, so that what it deletes is not the last one.
"""

import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError

import octoscale
from octoscale.checkpoint.layout import Commit, FencedError
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError
from octoscale.settings import Settings

Content = TypeVar("Content", bound=BaseModel)

KEEP_CLAIMS = 8
_CLAIM = re.compile(r"attempts/(\d{6,})\.json")


class Claim(Settings):
    """One start of the run; `failures` and `trained_seconds` are of all attempts before it."""

    number: int
    token: str
    host: str
    pid: int
    unix_time: float
    version: str
    failures: int = 0
    trained_seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"attempts/{self.number:06d}.json"

    def __str__(self) -> str:
        started = datetime.fromtimestamp(self.unix_time, UTC).isoformat(" ", "seconds")
        return f"attempt {self.number} (process {self.pid} on {self.host}, started {started})"


class Inheritance(Settings):
    """The commits that an attempt goes on from, by name."""

    number: int
    commits: list[str]

    @property
    def name(self) -> str:
        return f"attempts/{self.number:06d}-inherits.json"

    def admits(self, commit: Commit) -> bool:
        """Whether `commit` counts: it is of this attempt or a later one, or was there when this one began."""
        return commit.attempt >= self.number or commit.name in self.commits


def claim(store: Store, commits: Callable[[], Sequence[Commit]]) -> Claim:
    """Take the next number, and write down the `commits` that count at that moment."""
    while True:
        before = _newest_claim(store)
        mine = _next(before, store, commits())
        data = mine.model_dump_json().encode()
        with suppress(FileExistsError):
            store.write(mine.name, data, exclusive=True)
        # Ours even if it existed: a client may repeat a request whose answer it missed. A store that knows no
        # condition lets the last one win: the others go on to the next number.
        if store.read(mine.name) == data:
            break
    # After the claim, not before: see above.
    names = [commit.name for commit in commits()]
    inherits = Inheritance(number=mine.number, commits=names)
    store.write(inherits.name, inherits.model_dump_json().encode())
    return mine


def _next(before: Claim | None, store: Store, commits: Sequence[Commit]) -> Claim:
    """The claim after `before`. An attempt failed unless its last commit says that it ended in good order."""
    failures, seconds = 0, 0.0
    if before is not None:
        own = [commit for commit in commits if commit.attempt == before.number]
        newest = max(own, key=lambda commit: commit.order, default=None)
        failures = before.failures + (newest is None or not newest.last)
        seconds = before.trained_seconds + (0.0 if newest is None else max(newest.unix_time - before.unix_time, 0.0))
    return Claim(
        number=max(_numbers(store), default=0) + 1, token=uuid.uuid4().hex, host=socket.gethostname(), pid=os.getpid(),
        unix_time=time.time(), version=octoscale.__version__, failures=failures, trained_seconds=seconds,
    )  # fmt: skip


def check_newest(store: Store, mine: Claim) -> None:
    """Raise FencedError where a newer attempt has begun."""
    number = max(_numbers(store), default=mine.number)
    if number == mine.number:
        holder = _read(store, mine.name, Claim)
        # Without conditional writes two can take one number at one moment; the first then finds the second here.
        if holder is None or holder.token == mine.token:
            return
    elif number < mine.number:
        return
    newer = _read(store, f"attempts/{number:06d}.json", Claim)
    raise FencedError(
        f"{mine} of the run in {store.url} was replaced by {newer or f'attempt {number}'}, which goes on from the "
        "commits before: nothing more of this one counts; end it, or give it a `directory` of its own"
    )


def inherited(store: Store) -> Inheritance | None:
    """What the newest attempt that has begun goes on from; None where none has."""
    for number in sorted(_numbers(store), reverse=True):
        found = _read(store, f"attempts/{number:06d}-inherits.json", Inheritance)
        if found is not None:
            return found
    return None


def claims(store: Store) -> list[Claim]:
    """The last few starts of the run, oldest first."""
    found = [_read(store, f"attempts/{number:06d}.json", Claim) for number in sorted(_numbers(store))]
    return [claim for claim in found if claim is not None]


def sweep_claims(store: Store, mine: Claim) -> None:
    """Delete the claims of long ago, not the last few."""
    for number in sorted(_numbers(store))[:-KEEP_CLAIMS]:
        if number < mine.number:
            store.delete(f"attempts/{number:06d}-inherits.json")
            store.delete(f"attempts/{number:06d}.json")


def _numbers(store: Store) -> list[int]:
    return [int(match.group(1)) for match in map(_CLAIM.fullmatch, store.list("attempts")) if match]


def _newest_claim(store: Store) -> Claim | None:
    number = max(_numbers(store), default=None)
    return None if number is None else _read(store, f"attempts/{number:06d}.json", Claim)


def _read(store: Store, name: str, kind: type[Content]) -> Content | None:
    """None where it is gone or makes no sense; raises where the storage does not answer."""
    try:
        data = store.read(name)
    except OctoscaleError:
        if not store.exists(name):
            return None
        # Written since, or a storage that fails.
        data = store.read(name)
    try:
        return kind.model_validate_json(data)
    except ValidationError:
        return None
