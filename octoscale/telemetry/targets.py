"""Where Prometheus finds the endpoints: one file of targets for each rank, for `file_sd_configs`."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from octoscale.errors import OctoscaleError

_PARTIAL_SECONDS = 60


@contextmanager
def registered(folder: Path, *, run: str, rank: int, world_size: int, address: str) -> Iterator[Path]:
    """Name `address` (host:port) in ``folder/RUN-RANK.json`` while the block runs; Prometheus reads ``folder/*.json``.

    The file appears whole, replaces that of the rank's attempt before, and is held locked: what a killed process
    left is known by nobody holding it, and goes. So do the ranks that a smaller attempt no longer has. A rank that
    ends by an error leaves its file until then: a target that does not answer is what an alert can see.

    Raises:
        OctoscaleError: the folder cannot be written.
    """
    path = folder / f"{_slug(run)}-{rank:05d}.json"
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    # The labels are those that the metrics have themselves: `up`, which Prometheus adds, has them too.
    text = json.dumps([{"targets": [address], "labels": {"run": run, "rank": str(rank)}}]) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder, run, world_size)
        file = temporary.open("w")
    except OSError as error:
        raise OctoscaleError(
            f"cannot write the targets of Prometheus to {folder}: {error.strerror}; set telemetry.folder to a local "
            "folder"
        ) from error
    with file:
        flock(file, LOCK_EX)
        file.write(text)
        file.flush()
        temporary.replace(path)
        failed = False
        try:
            yield path
        except Exception:
            failed = True
            raise
        finally:
            # Not that of an attempt that has taken the place meanwhile.
            with suppress(FileNotFoundError):
                if not failed and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    path.unlink()


def targets_of(folder: Path, *, run: str) -> dict[int, str]:
    """The addresses of the run's ranks, by rank; those of a killed attempt are among them until the next one begins."""
    found: dict[int, str] = {}
    for path in sorted(folder.glob(f"{_slug(run)}-*.json")):
        # It may go in this moment.
        with suppress(OSError, ValueError, LookupError, TypeError):
            found[int(path.stem.rpartition("-")[2])] = str(json.loads(path.read_text())[0]["targets"][0])
    return found


def _sweep(folder: Path, run: str, world_size: int) -> None:
    for path in folder.glob("*.json"):
        own = re.fullmatch(rf"{re.escape(_slug(run))}-(\d{{5,}})\.json", path.name)
        with suppress(OSError), path.open("r+") as file:
            if own is None or int(own[1]) < world_size:
                flock(file, LOCK_EX | LOCK_NB)
            path.unlink()
    for path in folder.glob("*.partial"):
        # Written in a moment, unless its writer was killed in it.
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _PARTIAL_SECONDS:
                path.unlink()


def _slug(run: str) -> str:
    """A file's name for any run: readable, and different for different runs."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", run).strip("-")[-40:]
    return f"{words}-{hashlib.sha256(run.encode()).hexdigest()[:8]}"
