"""Plans on a node's disk: computed by one process, read by all. Imports NumPy and nothing heavier."""

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from octoscale.data.image_pool import Rows, rows_dtype
from octoscale.data.plan import epoch_plan
from octoscale.data.temporary import locked
from octoscale.data.windowed_plan import windowed_plan
from octoscale.errors import OctoscaleError

# Of the file and of the rule: raise it when the same seed gives another plan.
_FORMAT_VERSION = 1
_DIGEST_BYTES = hashlib.sha256().digest_size
_BYTES_AT_ONCE = 2**24


@dataclass(frozen=True)
class PlanRequest:
    """All that decides an epoch's plan, and where the counts are; it can be sent as JSON.

    Attributes:
        index_fingerprint: of the packed data set.
        identity_offsets: path of the index's array.
        shard_ids: path of the index's array.
        window_fraction: None: the resident plan.
    """

    index_fingerprint: str
    identity_offsets: str
    shard_ids: str
    global_batch_size: int
    seed: int
    window_fraction: float | None
    epoch: int

    @property
    def fingerprint(self) -> str:
        """sha256 over all that decides the plan, hexadecimal."""
        fields = asdict(self) | {"format_version": _FORMAT_VERSION, "mode": self.mode}
        del fields["identity_offsets"], fields["shard_ids"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    @property
    def mode(self) -> str:
        return "resident" if self.window_fraction is None else "windowed"

    def compute(self) -> Rows:
        """[batches, B] sample ids, int32 where they fit."""
        identity_offsets = np.load(self.identity_offsets, mmap_mode="r")
        if self.window_fraction is None:
            plan = epoch_plan(
                np.diff(identity_offsets), global_batch_size=self.global_batch_size, seed=self.seed, epoch=self.epoch
            )
        else:
            plan = windowed_plan(
                identity_offsets,
                np.load(self.shard_ids, mmap_mode="r"),
                global_batch_size=self.global_batch_size,
                seed=self.seed,
                epoch=self.epoch,
                window_fraction=self.window_fraction,
            )
        return plan.astype(rows_dtype(int(identity_offsets[-1])), copy=False)


class PlanFile:
    """``plan-<fingerprint>.npy`` in `directory`: an ordinary .npy file with the sha256 of its bytes behind it."""

    def __init__(self, request: PlanRequest, directory: Path) -> None:
        self.request = request
        self.path = directory / f"plan-{request.fingerprint}.npy"
        self._partial = self.path.with_suffix(".partial")
        self._lock = self.path.with_suffix(".lock")

    def load(self) -> Rows | None:
        """The plan, memory-mapped and read-only; None if it is missing, truncated or damaged."""
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
                if size < 0 or _digest_of(file, size) != file.read():
                    return None
            return _mapped(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OctoscaleError(f"cannot read the plan {self.path}: {error}; choose another cache_dir") from error

    def load_or_compute(self, *, wait: bool = True) -> Rows | None:
        """The plan; computed if need be, by one process at a time.

        Args:
            wait: for another process that computes it; else return None while one does.

        Raises:
            OctoscaleError: the plan is impossible, the disk is full, or the folder cannot be used.
        """
        plan = self.load()
        if plan is not None:
            return plan
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self._lock, wait=wait) as held:
                if not held:
                    return None
                plan = self.load()
                if plan is None:
                    self._write(self.request.compute())
                    plan = self.load()
        except OSError as error:
            raise OctoscaleError(
                f"cannot write the plan {self.path}: {error}; free some space, or choose another cache_dir"
            ) from error
        if plan is None:
            raise OctoscaleError(
                f"the plan {self.path} was damaged right after it was written; the disk may be failing: "
                "choose another cache_dir"
            )
        return plan

    def remove(self) -> None:
        """Delete the plan and what an interrupted process left of it, unless one is computing it now."""
        with contextlib.suppress(OSError):
            if self._lock.exists() or self._partial.exists() or self.path.exists():
                with locked(self._lock, wait=False) as held:
                    if held:
                        for path in (self.path, self._partial, self._lock):
                            path.unlink(missing_ok=True)

    def _write(self, plan: Rows) -> None:
        # Only the holder of the lock writes here, over what a killed one left.
        try:
            with self._partial.open("w+b") as file:
                np.save(file, plan)
                size = file.tell()
                file.seek(0)
                digest = _digest_of(file, size)
                file.seek(size)
                file.write(digest)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self._partial.unlink(missing_ok=True)
            raise
        self._partial.rename(self.path)


def _digest_of(file: BinaryIO, size: int) -> bytes:
    """Of the next `size` bytes."""
    digest = hashlib.sha256()
    while size > 0 and (data := file.read(min(size, _BYTES_AT_ONCE))):
        digest.update(data)
        size -= len(data)
    return digest.digest()


def _mapped(path: Path) -> Rows:
    plan: Rows = np.load(path, mmap_mode="r")
    return plan
