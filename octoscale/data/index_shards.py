"""An index of WebDataset shards that others wrote; the shards stay as they are."""

import re
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from octoscale.data.importers.samples import ScanShard, ShardSamples, scan_shard
from octoscale.data.importers.source import Excluded
from octoscale.data.index import INDEX_NAMES, MANIFEST_NAME, shard_name_fault
from octoscale.data.index_writer import write_index
from octoscale.data.names import Names
from octoscale.data.pack.report import REPORT_NAME, PackReport, Progress, silent
from octoscale.data.pack.rules import Rules, choose
from octoscale.data.pack.verified import FIELDS, Verified
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.data.workers import Workers
from octoscale.errors import OctoscaleError

_COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4)|tgz|tbz2?|txz|tzst)$")


@dataclass
class _Catalogue:
    """All samples of all shards; see `octoscale.data.pack.rules.Catalogue`."""

    url: str
    ignored: list[Excluded]
    keys: list[str]
    names: Names = field(default_factory=Names)

    def name(self, entry: int) -> str:
        return self.names[entry]

    def key(self, label: int) -> str:
        return self.keys[label]


def index_shards(
    url: str,
    *,
    label_field: str | None = None,
    min_images: int = 2,
    image_size: int | None = None,
    overwrite: bool = False,
    workers: int = 1,
    storage: StorageConfig | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Read every plain tar under `url` once, and write ``index/``, ``report.json`` and ``manifest.json`` beside them.

    Args:
        label_field: the identity is this field of a sample's ``.json``; None takes its ``.cls``.
        min_images: an identity with fewer good images is left out.
        image_size: height and width that every image must have, in pixels; None takes the first good image's.
        overwrite: replace an index that is there.
        workers: processes, one shard each at a time; the index is the same for any number.
        storage: how `url` is reached; None: by the defaults.
        progress: called as ("index", shards done, shards).

    Returns:
        The report: counts, and every excluded image and identity with its cause.

    Raises:
        OctoscaleError: no shards, compressed, damaged or hostile ones, or no identity with enough good images.
    """
    store, progress = Store(url, storage or StorageConfig()), progress or silent
    names = _find_shards(store)
    store.probe_writable()
    listed = {*store.list("index"), *(name for name in (MANIFEST_NAME, REPORT_NAME) if store.exists(name))}
    # Manifest first: what is left of an interrupted deleting is no data set.
    old_names = [name for name in (MANIFEST_NAME, REPORT_NAME, *INDEX_NAMES) if name in listed]
    if old_names and not overwrite:
        raise OctoscaleError(f"{url} already has an index ({old_names[0]}); replace it with --overwrite")
    scanned: list[ShardSamples] = []
    with Workers(workers) as processes:
        tasks = [ScanShard(store, name, label_field) for name in names]
        for samples in processes.map(scan_shard, tasks):
            scanned.append(samples)
            progress("index", len(scanned), len(names))
    catalogue, verified = _join(url, scanned)
    rules = Rules(min_images=min_images)
    chosen = choose(catalogue, verified, rules, image_size, seed=0)
    (selection,) = chosen.selections
    counts = [len(samples.labels) for samples in scanned]
    arrays: dict[str, NDArray[np.generic]] = {
        "shard_ids": np.repeat(np.arange(len(scanned), dtype=np.int32), counts)[selection.entries],
        "offsets": np.concatenate([samples.column("offsets") for samples in scanned])[selection.entries],
        "sizes": selection.sizes,
        "crc32": selection.crc32,
        "identity_offsets": selection.identity_offsets,
    }
    shards = tuple(samples.shard for samples in scanned if samples.shard is not None)
    for name in old_names:
        store.delete(name)
    manifest = write_index(
        store, arrays, keys=selection.keys, names=catalogue.names.take(selection.entries), shards=shards,
        image_size=selection.image_size,
    )  # fmt: skip
    report = replace(
        PackReport.of(manifest),
        excluded_images=tuple(chosen.excluded_images),
        excluded_identities=tuple(chosen.excluded_identities),
    )
    store.write(REPORT_NAME, report.dump())
    store.write(MANIFEST_NAME, manifest.dump())
    return report


def _find_shards(store: Store) -> list[str]:
    """Names of all tars, sorted."""
    found = store.list()
    compressed = [name for name in found if _COMPRESSED.search(name)]
    if compressed:
        raise OctoscaleError(
            f"{store.url} holds {len(compressed)} compressed shards, such as {compressed[0]}; images are read by "
            "offset, so decompress them first"
        )
    names = [name for name in found if name.endswith(".tar")]
    if not names:
        raise OctoscaleError(f"{store.url} holds no WebDataset shards (*.tar)")
    for name in names:
        if fault := shard_name_fault(name):
            raise OctoscaleError(f"the shard name {name!r} in {store.url} {fault}; rename it")
    return names


def _join(url: str, scanned: list[ShardSamples]) -> tuple[_Catalogue, Verified]:
    """The samples of all shards, in the order of the shards; labels become rows of the sorted identity keys."""
    found = {key for samples in scanned for key in samples.keys}
    # Class numbers sort as numbers.
    numbers = all(key.isascii() and key.isdigit() and len(key) < 19 for key in found)
    keys = sorted(found, key=lambda key: (int(key), key)) if numbers else sorted(found)
    rank = {key: label for label, key in enumerate(keys)}
    labels = [np.array([rank[key] for key in samples.keys], np.int64)[samples.column("labels")] for samples in scanned]
    arrays = {
        name: np.concatenate([samples.column(name) for samples in scanned]).astype(dtype)
        for name, dtype in FIELDS.items()
        if name != "labels"
    }
    causes: dict[int, str] = {}
    before = 0
    for samples in scanned:
        causes |= {before + row: cause for row, cause in samples.causes.items()}
        before += len(samples.labels)
    catalogue = _Catalogue(
        url, [item for samples in scanned for item in samples.excluded], keys,
        Names.parse(b"".join(samples.names for samples in scanned)),
    )  # fmt: skip
    return catalogue, Verified({"labels": np.concatenate(labels), **arrays}, causes)
