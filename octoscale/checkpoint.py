"""The state of a run on any storage: committed whole or not at all, verified when it is read.

Object stores have no rename, so nothing is ever written in place. A commit of step N is

    step-N/ATTEMPT/…            parts, written by torch.distributed.checkpoint, under a name never used again
    step-N/ATTEMPT/manifest.json  size and SHA-256 of each part, and the run's record
    commits/N.json              written last, and only if it does not exist: the commit point
"""

import hashlib
import json
import logging
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from pydantic import Field
from torch.distributed.checkpoint.api import CheckpointException

from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.settings import Settings

logger = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class Commit:
    """One commit point. `record` is whatever the run stored beside its tensors."""

    step: int
    prefix: str
    score: float | None
    manifest_sha256: str

    @property
    def name(self) -> str:
        return f"commits/{self.step:08d}.json"


class DamagedError(OctoscaleError):
    """A commit whose parts are missing or differ from what was committed."""


class Checkpoints:
    """The commits of one run. Every method but the read-only ones is called by all ranks together."""

    def __init__(self, url: str, world: World, config: CheckpointConfig) -> None:
        self.store = Store(url)
        self._world = world
        self._config = config

    def check_writable(self) -> None:
        """Fail before the work, not after it, where nothing can be written."""
        with self._together("checkpoint.url"):
            if self._world.is_main:
                self.store.probe_writable()

    def commits(self) -> list[Commit]:
        """All commits, oldest first."""
        found = []
        for name in self.store.list("commits"):
            try:
                found.append(Commit(**json.loads(self.store.read(name))))
            except (ValueError, TypeError):
                logger.warning("ignored the unreadable commit %s in %s", name, self.store.url)
        return sorted(found, key=lambda commit: commit.step)

    def record(self, commit: Commit) -> dict[str, Any]:
        """The run's record that a commit carries. Raises DamagedError where it cannot be trusted."""
        record: dict[str, Any] = self._manifest(commit)["record"]
        return record

    def commit(self, state: dict[str, Any], position: Position, record: dict[str, Any], score: float | None) -> None:
        """Commit `state` (tensors, nested) and `record` (JSON) as `position.step`, then sweep what is no longer kept.

        Raises:
            OctoscaleError: on every rank if one of them could not write, or if another process of the
                same run has committed this step. Nothing then counts as committed.
        """
        prefix = self._world.broadcast(f"step-{position.step:08d}/{uuid.uuid4().hex[:12]}")
        with tempfile.TemporaryDirectory(prefix="octoscale-commit-") as folder, self._together(f"commit {prefix}"):
            self._save(state, folder)
            parts = {path.name: _fingerprint(path) for path in sorted(Path(folder).iterdir())}
            for name in parts:
                self.store.upload(Path(folder, name), f"{prefix}/{name}")
        all_parts = {name: part for rank in self._world.gather(parts) for name, part in rank.items()}
        with self._together(f"commit {prefix}"):
            if self._world.is_main:
                self._write_commit(prefix, position, all_parts, record, score)

    def _save(self, state: dict[str, Any], folder: str) -> None:
        """This rank's share of the parts, in a folder of its own."""
        writer = dcp.FileSystemWriter(folder, sync_files=False)
        try:
            with _quiet():
                dcp.save(state, storage_writer=writer, no_dist=self._world.world_size == 1)
        except CheckpointException as error:  # a BaseException: it would pass by every handler
            raise OctoscaleError(f"the state cannot be written to {folder}: {error}; is the disk full?") from error

    def _write_commit(
        self, prefix: str, position: Position, parts: dict[str, Any], record: dict[str, Any], score: float | None
    ) -> None:
        manifest = json.dumps({"parts": parts, "record": {**record, "position": asdict(position)}}, indent=1).encode()
        self.store.write(f"{prefix}/manifest.json", manifest)
        commit = Commit(position.step, prefix, score, hashlib.sha256(manifest).hexdigest())
        try:
            self.store.write(commit.name, json.dumps(asdict(commit)).encode(), exclusive=True)
        except FileExistsError as error:
            raise OctoscaleError(
                f"step {position.step} is already committed in {self.store.url}: another process is training the "
                "same run; stop it, or give this one a directory of its own"
            ) from error
        self._sweep(commit)

    def _sweep(self, newest: Commit) -> None:
        """Forget commits that are not kept, then delete parts that no commit names: in this order."""
        commits = self.commits()
        keep = {commit.name for commit in commits[-self._config.keep_last :]} | {newest.name}
        scored = [commit for commit in commits if commit.score is not None]
        if self._config.keep_best and scored:
            keep.add(max(scored, key=lambda commit: commit.score or 0.0).name)
        for commit in commits:
            if commit.name not in keep:
                self.store.delete(commit.name)
        named = {commit.prefix for commit in commits if commit.name in keep}
        prefixes = {"/".join(name.split("/")[:2]) for name in self.store.list("") if name.startswith("step-")}
        for prefix in sorted(prefixes - named):
            # Parts of a later step may be another attempt's commit on its way.
            if int(prefix.split("/")[0].removeprefix("step-")) <= newest.step:
                self.store.delete(prefix)

    def load(self, state: dict[str, Any], commit: Commit) -> dict[str, Any]:
        """Fill `state` in place from a commit, verifying every part first; its record.

        `state` may be a part of what was committed (the model without its optimizer).

        Raises:
            DamagedError: on every rank, before `state` is touched.
        """
        with tempfile.TemporaryDirectory(prefix="octoscale-resume-") as folder:
            with self._together(f"read {commit.prefix}"):
                manifest = self._manifest(commit)
                for name, part in manifest["parts"].items():
                    path = Path(folder, name)
                    try:
                        self.store.download(f"{commit.prefix}/{name}", path)
                    except (OctoscaleError, OSError) as error:
                        raise DamagedError(f"{commit.prefix}/{name} cannot be read: {error}") from error
                    if _fingerprint(path) != part:
                        raise DamagedError(f"{commit.prefix}/{name} is not what was committed")
            reader = dcp.FileSystemReader(folder)
            with _quiet():
                dcp.load(state, storage_reader=reader, no_dist=self._world.world_size == 1)
        record: dict[str, Any] = manifest["record"]
        return record

    def newest(self) -> Commit | None:
        """The newest commit, the same on every rank; None in a fresh run."""
        commits = self.commits() if self._world.is_main else []
        newest: Commit | None = self._world.broadcast(commits[-1] if commits else None)
        return newest

    def quarantine(self, commit: Commit, cause: Exception) -> None:
        """Put a damaged commit aside, so that its step can be committed again."""
        logger.warning("checkpoint of step %d is damaged (%s): put aside, taking the one before it", commit.step, cause)
        if self._world.is_main:
            note = {**asdict(commit), "cause": str(cause), "unix_time": time.time()}
            name = f"damaged/{commit.step:08d}-{commit.prefix.rsplit('/', 1)[-1]}.json"
            self.store.write(name, json.dumps(note, indent=1).encode())
            self.store.delete(commit.name)
        self._world.barrier()

    def _manifest(self, commit: Commit) -> dict[str, Any]:
        try:
            data = self.store.read(f"{commit.prefix}/manifest.json")
        except (OctoscaleError, OSError) as error:
            raise DamagedError(f"{commit.prefix}/manifest.json cannot be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != commit.manifest_sha256:
            raise DamagedError(f"{commit.prefix}/manifest.json is not what was committed")
        manifest: dict[str, Any] = json.loads(data)
        return manifest

    @contextmanager
    def _together(self, what: str) -> Iterator[None]:
        """A fault of one rank becomes an error on all, so that none waits for the others in vain."""
        fault: Exception | None = None
        try:
            yield
        except (OctoscaleError, OSError) as error:
            fault = error
        faults = self._world.gather(None if fault is None else (isinstance(fault, DamagedError), str(fault)))
        if fault is not None:
            raise fault
        for rank, other in enumerate(faults):
            if other is not None:
                damaged, text = other
                raise (DamagedError if damaged else OctoscaleError)(f"{what}: rank {rank} failed: {text}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that a single process is single."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
