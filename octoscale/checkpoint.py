"""The state of a run on any storage: committed whole or not at all, verified when it is read.

Object stores have no rename, so nothing is ever written in place. A commit of step N is

    step-N/ATTEMPT/…            parts, written by torch.distributed.checkpoint, under a name never used again
    step-N/ATTEMPT/manifest.json  size and SHA-256 of each part, and the run's record
    commits/N.json              written last, and only if it does not exist: the commit point
"""

import hashlib
import json
import logging
import math
import re
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from pydantic import Field, ValidationError
from torch.distributed.checkpoint.api import CheckpointException

from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.settings import Settings

logger = logging.getLogger(__name__)

_COMMIT_NAME = re.compile(r"commits/\d{8,}\.json")
_ATTEMPT = re.compile(r"step-(\d{8,})/[0-9a-f]{12}(?=/)")


class CheckpointConfig(Settings):
    """Where, how often, and how many."""

    url: str | None = Field(None, description="any fsspec URL; by default `checkpoints` in the run's directory")
    every_steps: int = Field(100, ge=1)
    keep_last: int = Field(2, ge=1)
    keep_best: bool = Field(True, description="also keep the commit with the best evaluation")


@dataclass(frozen=True)
class Position:
    """What comes next: `step` optimizer steps are done, the next batch is `batch` of `epoch`."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    samples_seen: int = 0


class Commit(Settings):
    """One commit point: the content of ``commits/N.json``."""

    step: int
    prefix: str
    score: float | None
    manifest_sha256: str

    @property
    def name(self) -> str:
        return f"commits/{self.step:08d}.json"


def best_of(commits: Sequence[Commit]) -> Commit | None:
    """The commit with the highest score, the oldest of equals; None where none was evaluated."""
    scored = [(commit.score, -commit.step, commit) for commit in commits if commit.score is not None]
    return max(scored, key=lambda entry: entry[:2])[2] if scored else None


class DamagedError(OctoscaleError):
    """A commit whose parts are missing or differ from what was committed."""


class Checkpoints:
    """The commits of one run. Every method but the read-only ones is called by all ranks together."""

    def __init__(self, url: str, world: World, config: CheckpointConfig, storage: StorageConfig | None = None) -> None:
        self.store = Store(url, storage or StorageConfig())
        self._world = world
        self._config = config

    def check_writable(self) -> None:
        """Fail before the work, not after it, where nothing can be written."""
        with self._together("write checkpoints"):
            if self._world.is_main:
                self.store.probe_writable()

    def commits(self) -> list[Commit]:
        """All commits that can be read, oldest first."""
        return self._list()[0]

    def _list(self) -> tuple[list[Commit], list[str]]:
        """The commits, oldest first, and the names of those whose content makes no sense."""
        found, senseless = [], []
        for name in filter(_COMMIT_NAME.fullmatch, self.store.list("commits")):
            try:
                data = self.store.read(name)
            except OctoscaleError:
                # Swept since it was listed; but a storage that fails must not look like a commit that never was.
                if self.store.exists(name):
                    raise
                continue
            try:
                commit = Commit.model_validate_json(data)
            except ValidationError:
                commit = None
            if commit is None or commit.name != name:
                senseless.append(name)
            else:
                found.append(commit)
        return sorted(found, key=lambda commit: commit.step), senseless

    def record(self, commit: Commit) -> dict[str, Any]:
        """The run's record that a commit carries. Raises DamagedError, on every rank, where it cannot be trusted."""
        with self._together(f"read {commit.prefix}"):
            record: dict[str, Any] = self._manifest(commit)["record"]
        return record

    def commit(self, state: dict[str, Any], position: Position, record: dict[str, Any], score: float | None) -> None:
        """Commit `state` (tensors, nested) and `record` (JSON) as `position.step`, then sweep what is no longer kept.

        Raises:
            OctoscaleError: on every rank if one of them could not write, or if another process of the
                same run has committed this step. Nothing then counts as committed.
        """
        prefix = self._world.broadcast(f"step-{position.step:08d}/{uuid.uuid4().hex[:12]}")
        what = f"commit {prefix}"
        with ExitStack() as stack:
            with self._together(what):
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="octoscale-commit-"))
            # Not in a block of its own: torch's ranks speak to each other here, and all learn of a fault.
            self._save(state, folder)
            with self._together(what):
                parts = {path.name: _fingerprint(path) for path in sorted(Path(folder).iterdir())}
                for name in parts:
                    self.store.upload(Path(folder, name), f"{prefix}/{name}")
        all_parts = {name: part for rank in self._world.gather(parts) for name, part in rank.items()}
        with self._together(what):
            if self._world.is_main:
                self._write_commit(prefix, position, all_parts, record, score)

    def _save(self, state: dict[str, Any], folder: str) -> None:
        """This rank's share of the parts, in a folder of its own."""
        writer = dcp.FileSystemWriter(folder, sync_files=False)
        try:
            with _quiet():
                dcp.save(state, storage_writer=writer, no_dist=self._world.world_size == 1)
        except CheckpointException as error:  # a BaseException: it would pass by every handler
            raise OctoscaleError(
                f"the state cannot be written to {folder}: {_first_cause(error)}; make room there, or set TMPDIR"
            ) from error

    def _write_commit(
        self, prefix: str, position: Position, parts: dict[str, Any], record: dict[str, Any], score: float | None
    ) -> None:
        manifest = json.dumps({"parts": parts, "record": {**record, "position": asdict(position)}}, indent=1).encode()
        self.store.write(f"{prefix}/manifest.json", manifest)
        # Nothing is better or worse than a score that is no number.
        score = score if score is not None and math.isfinite(score) else None
        digest = hashlib.sha256(manifest).hexdigest()
        commit = Commit(step=position.step, prefix=prefix, score=score, manifest_sha256=digest)
        data = commit.model_dump_json().encode()
        try:
            self.store.write(commit.name, data, exclusive=True)
        except FileExistsError as error:
            # Ours, if a client repeated a request whose answer it missed.
            if self.store.read(commit.name) != data:
                raise OctoscaleError(
                    f"step {position.step} is already committed in {self.store.url}: another process is training the "
                    "same run; stop it, or give this one a `directory` of its own"
                ) from error
        try:
            self._sweep(commit)
        except (OctoscaleError, OSError) as error:
            logger.warning("step %d is committed, but not all old ones are removed: %s", commit.step, error)

    def _sweep(self, newest: Commit) -> None:
        """Forget commits that are not kept, then delete parts that no commit names: in this order."""
        commits = self.commits()
        kept = [*commits[-self._config.keep_last :], newest]
        best = best_of(commits)
        if self._config.keep_best and best is not None:
            kept.append(best)
        for commit in commits:
            if commit not in kept:
                self.store.delete(commit.name)
        named = {commit.prefix for commit in kept}
        attempts = {match.group(): int(match.group(1)) for match in map(_ATTEMPT.match, self.store.list("")) if match}
        for prefix, step in sorted(attempts.items()):
            # Parts of a later step may be another attempt's commit on its way.
            if prefix not in named and step <= newest.step:
                self.store.delete(prefix)

    def load(self, state: dict[str, Any], commit: Commit) -> None:
        """Fill `state` in place from a commit, verifying every part first.

        `state` may be a part of what was committed (the model without its optimizer).

        Raises:
            DamagedError: on every rank, before `state` is touched.
            OctoscaleError: the storage does not answer, or the state is of another network.
        """
        with self.verified(commit) as folder:
            self.fill(state, folder, commit)

    @contextmanager
    def verified(self, commit: Commit) -> Iterator[Path]:
        """A local folder with every part of a commit, each as it was committed; raises as `load` does."""
        with ExitStack() as stack:
            with self._together(f"read {commit.prefix}"):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="octoscale-resume-")))
                for name, part in self._manifest(commit)["parts"].items():
                    with self._damaged_if_gone(f"{commit.prefix}/{name}"):
                        self.store.download(f"{commit.prefix}/{name}", folder / name)
                    if _fingerprint(folder / name) != part:
                        raise DamagedError(f"{commit.prefix}/{name} is not what was committed")
            yield folder

    def fill(self, state: dict[str, Any], folder: Path, commit: Commit) -> None:
        """Fill `state` in place from the folder of `verified`."""
        try:
            with _quiet():
                dcp.load(state, storage_reader=dcp.FileSystemReader(folder), no_dist=self._world.world_size == 1)
        except CheckpointException as error:
            raise OctoscaleError(
                f"the state of step {commit.step} in {self.store.url} is not this network's: {_first_cause(error)}; "
                "set `model` back, or give this run a `directory` of its own"
            ) from error

    def newest(self) -> Commit | None:
        """The newest commit, the same on every rank; None in a fresh run. What makes no sense is put aside."""
        commits: list[Commit] = []
        with self._together("look for commits"):
            if self._world.is_main:
                commits, senseless = self._list()
                for name in senseless:
                    self._put_aside(name, "its content makes no sense")
        newest: Commit | None = self._world.broadcast(commits[-1] if commits else None)
        return newest

    def quarantine(self, commit: Commit, cause: Exception) -> None:
        """Put a damaged commit aside, so that its step can be committed again."""
        with self._together(f"put {commit.name} aside"):
            if self._world.is_main:
                self._put_aside(commit.name, str(cause))

    def _put_aside(self, name: str, cause: str) -> None:
        logger.warning("the checkpoint %s is damaged (%s): put aside, taking the one before it", name, cause)
        content = self.store.read(name).decode(errors="replace")
        note = {"name": name, "content": content, "cause": cause, "unix_time": time.time()}
        aside = f"damaged/{Path(name).stem}-{uuid.uuid4().hex[:12]}.json"
        self.store.write(aside, json.dumps(note, indent=1).encode())
        self.store.delete(name)

    def _manifest(self, commit: Commit) -> dict[str, Any]:
        name = f"{commit.prefix}/manifest.json"
        with self._damaged_if_gone(name):
            data = self.store.read(name)
        if hashlib.sha256(data).hexdigest() != commit.manifest_sha256:
            raise DamagedError(f"{name} is not what was committed")
        manifest: dict[str, Any] = json.loads(data)
        return manifest

    @contextmanager
    def _damaged_if_gone(self, name: str) -> Iterator[None]:
        """What is gone is damage. A storage that does not answer is not: it must not cost the commit."""
        try:
            yield
        except OctoscaleError as error:
            if self.store.exists(name):
                raise
            raise DamagedError(f"{name} is missing") from error

    @contextmanager
    def _together(self, what: str) -> Iterator[None]:
        """A fault of one rank becomes an error on all, so that none waits for the others in vain."""
        fault: Exception | None = None
        try:
            yield
        except OSError as error:
            fault = OctoscaleError(f"cannot {what}: {error}")
        except Exception as error:  # Any: it is raised again when the others know.
            fault = error
        told = None if fault is None else (isinstance(fault, DamagedError), str(fault) or repr(fault))
        faults = self._world.gather(told)
        if fault is not None:
            raise fault
        for rank, other in enumerate(faults):
            if other is not None:
                damaged, text = other
                raise (DamagedError if damaged else OctoscaleError)(f"cannot {what}: rank {rank} failed: {text}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that a single process is single."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _first_cause(error: CheckpointException) -> str:
    """One line instead of the tracebacks of all ranks."""
    cause, _ = next(iter(error.failures.values()))
    return f"{cause}".strip() or repr(cause)
