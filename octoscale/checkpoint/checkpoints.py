"""The commits of one run, as its ranks make and read them together."""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.distributed.checkpoint.api import CheckpointException

from octoscale.checkpoint import attempts, parts
from octoscale.checkpoint.agreement import together
from octoscale.checkpoint.background import Background
from octoscale.checkpoint.catalogue import Listing, listing, manifest, put_aside
from octoscale.checkpoint.config import CheckpointConfig
from octoscale.checkpoint.host_copy import HostCopy
from octoscale.checkpoint.layout import (
    Commit,
    DamagedError,
    FencedError,
    Position,
    Prefix,
    manifest_bytes,
    manifest_name,
)
from octoscale.checkpoint.retention import sweep
from octoscale.checkpoint.scratch import scratch
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.distributed.world import World, close_side_channel, side_channel
from octoscale.errors import OctoscaleError

logger = logging.getLogger(__name__)

# After an error elsewhere: for a commit that is nearly there, not for a rank that does not answer any more.
_PATIENCE_SECONDS = 15.0


@dataclass(frozen=True)
class _Content:
    """What is to be committed, and what is called just before (rank by rank) and after it."""

    state: dict[str, Any]
    position: Position
    record: dict[str, Any]
    score: float | None
    last: bool
    first: Callable[[], None]
    then: Callable[[float, int], None]
    failed: Callable[[], None]


class Checkpoints:
    """The commits of one run. Every method but the read-only ones is called by all ranks together.

    With ``config.asynchronous`` a commit goes on in a thread after `commit` has returned, over a process group of its
    own; at most one is under way. As a context manager it waits for that one, and closes the group.
    """

    def __init__(self, url: str, world: World, config: CheckpointConfig, storage: StorageConfig | None = None) -> None:
        self.store = Store(url, storage or StorageConfig())
        self.attempt: attempts.Claim | None = None
        self._world = side_channel(world, timeout_seconds=config.timeout_seconds)
        self._config = config
        self._background = Background("checkpoint")
        self._host_copy = HostCopy()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        done = False
        try:
            done = self._background.wait() if error is None else self._wait_after(error)
        finally:
            # A group in use is left to the end of the process.
            if done or not self._background.busy:
                close_side_channel(self._world)
                self._world = replace(self._world, side_group=None)

    def _wait_after(self, error: BaseException) -> bool:
        try:
            if self._background.wait(_PATIENCE_SECONDS):
                return True
        except Exception as fault:
            logger.warning("the commit under way failed too: %s", fault)
            return True
        logger.warning("%s: the commit under way is given up", type(error).__name__)
        return False

    def check_writable(self) -> None:
        """Fail before the work, not after it, where nothing can be written."""
        with self._together("write checkpoints"):
            if self._world.is_main:
                self.store.probe_writable()

    def claim(self) -> attempts.Claim:
        """Begin the next attempt of the run: from now on an earlier one can commit nothing that counts."""
        mine: attempts.Claim | None = None
        with self._together(f"begin an attempt in {self.store.url}"):
            if self._world.is_main:
                mine = attempts.claim(self.store, self.commits)
        mine = self._world.broadcast(mine)
        assert mine is not None
        self.attempt = mine
        return mine

    def commits(self) -> list[Commit]:
        """All commits that count and can be read, oldest first."""
        return self.listing().commits

    def listing(self) -> Listing:
        """All commits, and those that do not count."""
        return listing(self.store)

    def record(self, commit: Commit) -> dict[str, Any]:
        """The run's record that a commit carries. Raises DamagedError, on every rank, where it cannot be trusted."""
        with self._together(f"read {commit.prefix}"):
            record: dict[str, Any] = manifest(self.store, commit)["record"]
        return record

    def size_bytes(self, commit: Commit) -> int | None:
        """The size of all parts; None where the manifest is damaged."""
        try:
            return sum(int(part["size"]) for part in manifest(self.store, commit)["parts"].values())
        except DamagedError:
            return None

    @property
    def busy(self) -> bool:
        """Whether a commit is under way."""
        return self._background.busy

    @property
    def failed(self) -> bool:
        """Whether the commit under way has failed on this rank, as it has or will on all: `wait` will raise it."""
        return self._background.failed

    def wait(self) -> None:
        """Until no commit is under way. Raises, on every rank, what that one raised."""
        self._background.wait()

    def commit(
        self,
        state: dict[str, Any],
        position: Position,
        record: dict[str, Any],
        score: float | None,
        *,
        last: bool = False,
        first: Callable[[], None] = lambda: None,
        then: Callable[[float, int], None] = lambda seconds, size_bytes: None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """Commit `state` (tensors, nested) and `record` (JSON) as `position.step`, then sweep what is no longer kept.

        Waits for the commit before this one; a fault of it is raised here. Asynchronous, it then copies `state` to
        host memory and returns; else it returns when the commit is there.

        Args:
            last: the attempt ends here in good order.
            first: called on every rank before the parts are written, in the commit's thread.
            then: called on every rank with the seconds it took and the size of its parts in bytes, when the commit is
                there; in the commit's thread.
            failed: called on every rank when the commit has failed; in its thread.

        Raises:
            FencedError: a newer attempt of the run has begun.
            OctoscaleError: on every rank if one of them could not write. Nothing then counts as committed.
        """
        started = time.perf_counter()
        self.wait()
        mine = self.attempt or self.claim()
        content = _Content(state, position, record, score, last, first, then, failed)
        if not self._config.asynchronous:
            self._commit(content, mine, started)
            return
        content = replace(content, state=self._host_copy.take(state))
        self._background.start(partial(self._commit, content, mine, started))

    def _commit(self, content: _Content, mine: attempts.Claim, started: float) -> None:
        try:
            size_bytes = self._make(content, mine)
        except FencedError:
            raise
        except Exception:  # Any: it is raised again where the commit is waited for.
            content.failed()
            raise
        content.then(time.perf_counter() - started, size_bytes)

    def _make(self, content: _Content, mine: attempts.Claim) -> int:
        prefix: Prefix = self._world.broadcast(Prefix.new(content.position.step, mine.number))
        what = f"commit {prefix.name}"
        with ExitStack() as stack:
            with self._together(what):
                content.first()
                folder = stack.enter_context(scratch("octoscale-commit-"))
            # Not in a block of its own: torch's ranks speak to each other here, and all learn of a fault.
            parts.save(content.state, folder, self._world)
            with self._together(what):
                sent = parts.send(self.store, folder, prefix.name)
        all_parts = {name: part for rank in self._world.gather(sent) for name, part in rank.items()}
        with self._together(what):
            if self._world.is_main:
                self._write_commit(prefix, mine, all_parts, content)
        return sum(part["size"] for part in all_parts.values())

    def _write_commit(self, prefix: Prefix, mine: attempts.Claim, sent: dict[str, Any], content: _Content) -> None:
        data = manifest_bytes(sent, content.record, content.position)
        self.store.write(manifest_name(prefix.name), data)
        # Nothing is better or worse than a score that is no number.
        score = content.score if content.score is not None and math.isfinite(content.score) else None
        commit = Commit(
            step=prefix.step, attempt=mine.number, prefix=prefix.name, score=score, unix_time=time.time(),
            manifest_sha256=hashlib.sha256(data).hexdigest(), last=content.last,
        )  # fmt: skip
        attempts.check_newest(self.store, mine)
        self._write_commit_point(commit)
        try:
            sweep(self.store, mine, commit, keep_last=self._config.keep_last, keep_best=self._config.keep_best)
        except FencedError:
            raise
        except (OctoscaleError, OSError) as error:
            logger.warning("step %d is committed, but not all old ones are removed: %s", commit.step, error)

    def _write_commit_point(self, commit: Commit) -> None:
        data = commit.model_dump_json().encode()
        try:
            self.store.write(commit.name, data, exclusive=True)
        except FileExistsError as error:
            # Ours, if a client repeated a request whose answer it missed.
            if self.store.read(commit.name) != data:
                raise OctoscaleError(
                    f"step {commit.step} is already committed by attempt {commit.attempt} in {self.store.url}: this "
                    "run went back without starting anew; start it again"
                ) from error

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
                folder = stack.enter_context(scratch("octoscale-resume-"))
                for name, part in manifest(self.store, commit)["parts"].items():
                    parts.fetch(self.store, commit.prefix, name, part, folder)
            yield folder

    def fill(self, state: dict[str, Any], folder: Path, commit: Commit) -> None:
        """Fill `state` in place from the folder of `verified`."""
        try:
            parts.load(state, folder, self._world)
        except CheckpointException as error:
            raise OctoscaleError(
                f"the state of step {commit.step} in {self.store.url} is not this network's: "
                f"{parts.first_cause(error)}; set `model` back, or give this run a `directory` of its own"
            ) from error

    def newest(self) -> Commit | None:
        """The newest commit, the same on every rank; None in a fresh run. What makes no sense is put aside."""
        commits: list[Commit] = []
        with self._together("look for commits"):
            if self._world.is_main:
                found = self.listing()
                commits = found.commits
                for name in found.senseless:
                    put_aside(self.store, name, "its content makes no sense")
        newest: Commit | None = self._world.broadcast(commits[-1] if commits else None)
        return newest

    def quarantine(self, commit: Commit, cause: Exception) -> None:
        """Put a damaged commit aside, so that its step can be committed again."""
        with self._together(f"put {commit.name} aside"):
            if self._world.is_main:
                put_aside(self.store, commit.name, str(cause))

    def _together(self, what: str) -> Any:
        return together(self._world, what)
