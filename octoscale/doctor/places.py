"""The storage of a run: whether it can be read, written and tidied where it is to be."""

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from octoscale.config import Config
from octoscale.data.index import Manifest, read_manifest
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.doctor.check import Check
from octoscale.errors import OctoscaleError
from octoscale.telemetry.words import size


def impatient(storage: StorageConfig) -> StorageConfig:
    """As the run's, but who has asked the doctor waits for the answer."""
    seconds = min(storage.deadline_seconds, 2 * storage.timeout_seconds)
    return storage.model_copy(update={"deadline_seconds": seconds})


def writable(name: str, url: str, storage: StorageConfig) -> Check:
    """Write an object, read it, find it in a listing, delete it: each failure with its own error."""
    try:
        store = Store(url, impatient(storage))
    except OctoscaleError as error:
        return Check.failed(name, error)
    folder, content, note = f".octoscale-doctor-{uuid.uuid4().hex}", uuid.uuid4().bytes, ""
    if store.is_local:
        there = next(path for path in (store.local_path(), *store.local_path().parents) if path.exists())
        if there.is_dir() and there != store.local_path():
            # The folder need not be made to know that it can be.
            store, note = Store(str(there), storage), ", not there yet"
    probe = folder if store.is_local else f"{folder}/probe"
    began = time.perf_counter()
    try:
        store.write(probe, content)
        read = store.read(probe)
        listed = store.is_local or probe in store.list(folder)
    except OctoscaleError as error:
        # It may be there all the same; that it cannot be deleted either is no news.
        with suppress(OctoscaleError):
            store.delete(probe)
        return Check.failed(name, error)
    try:
        store.delete(probe)
    except OctoscaleError as error:
        found, _, _ = str(error).partition("; ")
        return Check(name, "failed", f"can be written, but {found}",
                     f"allow deleting, or old commits will stay for ever; delete {probe} by hand")  # fmt: skip
    if read != content or not listed:
        what = "reads back other bytes than were written" if read != content else "does not list what was just written"
        return Check(name, "failed", f"{url} {what}", "octoscale needs a store whose reads follow its writes")
    return Check(name, "ok", f"{url}: write, read, delete in {time.perf_counter() - began:.2f} s{note}")


def data_set(config: Config) -> tuple[Check, Manifest | None]:
    """Whether the data set is there; its manifest, for what else follows from it."""
    try:
        store = Store(config.data.url, impatient(config.storage))
        manifest = read_manifest(store.read, store.exists, config.data.url)
    except OctoscaleError as error:
        return Check.failed("data.url", error), None
    bytes_of_shards = sum(shard.size_bytes for shard in manifest.shards)
    found = f"{config.data.url}: {manifest.images:,} images, {size(bytes_of_shards)}"
    return Check("data.url", "ok", found), manifest


def files(config: Config) -> Iterator[Check]:
    """Local files that the configuration names."""
    evaluate = config.evaluate
    named = {
        "model.weights": config.model.weights,
        "evaluate.pairs": evaluate and evaluate.pairs,
        "evaluate.images": evaluate and evaluate.images,
    }
    for key, path in named.items():
        if not isinstance(path, str) or "://" in path:
            continue
        there = Path(path).expanduser().exists()
        if there:
            yield Check(key, "ok", path)
        else:
            yield Check(key, "failed", f"{path} is not there", f"set {key} to a path of this machine")
