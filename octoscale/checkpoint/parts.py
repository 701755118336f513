"""The parts of a commit in a local folder, by torch.distributed.checkpoint, and their checksums."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from octoscale.checkpoint.catalogue import damaged_if_gone
from octoscale.checkpoint.layout import DamagedError
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


def send(store: Store, folder: Path, prefix: str) -> dict[str, Any]:
    """Upload the files of `folder` under `prefix`, each named by its content, and read them back.

    Returns:
        For the manifest: size, SHA-256 and object of each file, by its name.

    Raises:
        OctoscaleError: the storage fails, or gives back something else than it was given.
    """
    parts = {}
    for path in sorted(folder.iterdir()):
        sent = _fingerprint(path)
        content_name = sent["sha256"] + Path(f"x{path.name}").suffix  # .distcp, or .metadata
        name = f"{prefix}/{content_name}"
        store.upload(path, name)
        # What was sent is not needed any more.
        path.unlink()
        if _stored(store, name, path) != sent:
            raise OctoscaleError(
                f"{store.url} gives back {name} other than it was written: nothing is committed; check the "
                "storage, and start again to go on from the last commit"
            )
        parts[path.name] = {**sent, "object": content_name}
    return parts


def fetch(store: Store, prefix: str, name: str, part: Mapping[str, Any], folder: Path) -> None:
    """Bring one part of a commit to the file `name` in `folder`.

    Args:
        part: what the manifest says of it. One without `object` was written under its file's name.

    Raises:
        DamagedError: it is missing, or not what was committed.
    """
    source = f"{prefix}/{part.get('object', name)}"
    with damaged_if_gone(store, source):
        store.download(source, folder / name)
    if _fingerprint(folder / name) != {key: part[key] for key in ("size", "sha256")}:
        raise DamagedError(f"{source} is not what was committed")


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": file_sha256(path)}


def _stored(store: Store, name: str, scratch: Path) -> dict[str, Any]:
    if store.is_local:
        return _fingerprint(store.local_path(name))
    store.download(name, scratch)
    found = _fingerprint(scratch)
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
