"""The parts of a commit in a local folder, by torch.distributed.checkpoint, and their checksums."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from octoscale.data.index import file_sha256
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError


def save(state: dict[str, Any], folder: Path, world: World) -> None:
    """This rank's share of the parts, in a folder of its own. All ranks call it."""
    writer = dcp.FileSystemWriter(folder, sync_files=False)
    try:
        with _quiet():
            dcp.save(state, storage_writer=writer, process_group=world.group, no_dist=world.world_size == 1)
    except CheckpointException as error:  # a BaseException: it would pass by every handler
        raise OctoscaleError(
            f"the state cannot be written to {folder}: {first_cause(error)}; make room there, or set TMPDIR"
        ) from error


def load(state: dict[str, Any], folder: Path, world: World) -> None:
    """Fill `state` in place from a folder with all parts. Raises CheckpointException where they do not fit."""
    reader = dcp.FileSystemReader(folder)
    with _quiet():
        dcp.load(state, storage_reader=reader, process_group=world.group, no_dist=world.world_size == 1)


def fingerprint(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": file_sha256(path)}


def send(store: Store, folder: Path, prefix: str) -> dict[str, Any]:
    """Upload the files of `folder` under `prefix`, and read them back; their fingerprints by name.

    Raises:
        OctoscaleError: the storage fails, or gives back something else than it was given.
    """
    parts = {path.name: fingerprint(path) for path in sorted(folder.iterdir())}
    for name, part in parts.items():
        store.upload(folder / name, f"{prefix}/{name}")
        # What was sent is not needed any more.
        (folder / name).unlink()
        if _stored(store, f"{prefix}/{name}", folder / name) != part:
            raise OctoscaleError(
                f"{store.url} gives back {prefix}/{name} other than it was written: nothing is committed; check the "
                "storage, and start again to go on from the last commit"
            )
    return parts


def _stored(store: Store, name: str, scratch: Path) -> dict[str, Any]:
    if store.is_local:
        return fingerprint(store.local_path(name))
    store.download(name, scratch)
    found = fingerprint(scratch)
    scratch.unlink()
    return found


def first_cause(error: CheckpointException) -> str:
    """One line instead of the tracebacks of all ranks."""
    cause, _ = next(iter(error.failures.values()))
    return f"{cause}".strip() or repr(cause)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that a single process is single."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
