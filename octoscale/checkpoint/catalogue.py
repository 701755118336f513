"""The commits that are there, and which of them count."""

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from octoscale.checkpoint import attempts
from octoscale.checkpoint.layout import COMMIT_NAME, Commit, DamagedError, manifest_name
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """Commits that count, oldest first; those of an attempt that was replaced; names whose content makes no sense."""

    commits: list[Commit]
    fenced: list[Commit]
    senseless: list[str]


def listing(store: Store) -> Listing:
    """What is under ``commits/``. Raises where the storage does not answer."""
    found, senseless = [], []
    for name in filter(COMMIT_NAME.fullmatch, store.list("commits")):
        try:
            data = store.read(name)
        except OctoscaleError:
            # Swept since it was listed; but a storage that fails must not look like a commit that never was.
            if store.exists(name):
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
    found.sort(key=lambda commit: commit.order)
    # After the listing: a claim in between rules out what it has not seen.
    ruler = attempts.inherited(store)
    counts = [ruler is None or ruler.admits(commit) for commit in found]
    return Listing(
        [commit for commit, admitted in zip(found, counts, strict=True) if admitted],
        [commit for commit, admitted in zip(found, counts, strict=True) if not admitted],
        senseless,
    )


def manifest(store: Store, commit: Commit) -> dict[str, Any]:
    """The manifest of a commit, verified. Raises DamagedError."""
    name = manifest_name(commit.prefix)
    with damaged_if_gone(store, name):
        data = store.read(name)
    if hashlib.sha256(data).hexdigest() != commit.manifest_sha256:
        raise DamagedError(f"{name} is not what was committed")
    content: dict[str, Any] = json.loads(data)
    return content


@contextmanager
def damaged_if_gone(store: Store, name: str) -> Iterator[None]:
    """What is gone is damage. A storage that does not answer is not: it must not cost the commit."""
    try:
        yield
    except OctoscaleError as error:
        if store.exists(name):
            raise
        raise DamagedError(f"{name} is missing") from error


def put_aside(store: Store, name: str, cause: str) -> None:
    """Move a commit out of the way, so that its step can be committed again."""
    logger.warning("the checkpoint %s is damaged (%s): put aside, taking the one before it", name, cause)
    content = store.read(name).decode(errors="replace")
    note = {"name": name, "content": content, "cause": cause, "unix_time": time.time()}
    aside = f"damaged/{Path(name).stem}-{uuid.uuid4().hex[:12]}.json"
    store.write(aside, json.dumps(note, indent=1).encode())
    store.delete(name)
