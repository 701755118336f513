"""Names and contents of what a commit consists of."""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from octoscale.errors import OctoscaleError
from octoscale.settings import Settings

COMMIT_NAME = re.compile(r"commits/\d{8,}-\d{6,}\.json")
_PREFIX = re.compile(r"step-(\d{8,})-(\d{6,})-[0-9a-f]{12}(?=/)")


@dataclass(frozen=True)
class Position:
    """What comes next: `step` optimizer steps are done, the next batch is `batch` of `epoch`."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    samples_seen: int = 0


class Commit(Settings):
    """One commit point: the content of ``commits/N-A.json``. `last`: its attempt ended with it, in good order."""

    step: int
    attempt: int
    prefix: str
    score: float | None
    manifest_sha256: str
    unix_time: float
    last: bool = False

    @property
    def name(self) -> str:
        return f"commits/{self.step:08d}-{self.attempt:06d}.json"

    @property
    def order(self) -> tuple[int, int]:
        """Newer commits are greater."""
        return self.step, self.attempt


class DamagedError(OctoscaleError):
    """A commit whose parts are missing or differ from what was committed."""


class FencedError(OctoscaleError):
    """A newer attempt of the same run has begun: this one must end."""


@dataclass(frozen=True)
class Prefix:
    """Where the parts of one try to commit are."""

    name: str
    step: int
    attempt: int

    @classmethod
    def new(cls, step: int, attempt: int) -> "Prefix":
        return cls(f"step-{step:08d}-{attempt:06d}-{uuid.uuid4().hex[:12]}", step, attempt)


def prefix_of(name: str) -> Prefix | None:
    """The prefix that the object `name` belongs to; None for what is no part of a commit."""
    match = _PREFIX.match(name)
    return Prefix(match.group(), int(match.group(1)), int(match.group(2))) if match else None


def manifest_name(prefix: str) -> str:
    return f"{prefix}/manifest.json"


def manifest_bytes(parts: Mapping[str, Any], record: Mapping[str, Any], position: Position) -> bytes:
    return json.dumps({"parts": parts, "record": {**record, "position": asdict(position)}}, indent=1).encode()


def best_of(commits: Sequence[Commit]) -> Commit | None:
    """The commit with the highest score, the oldest of equals; None where none was evaluated."""
    scored = [(commit.score, -commit.step, commit) for commit in commits if commit.score is not None]
    return max(scored, key=lambda entry: entry[:2])[2] if scored else None
