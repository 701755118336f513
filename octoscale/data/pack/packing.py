"""Packing, from a source to a data set: look at everything, choose, write."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from octoscale.data.importers.open import open_source
from octoscale.data.importers.source import Source
from octoscale.data.index import MANIFEST_NAME, Manifest, Shard
from octoscale.data.index_writer import write_index
from octoscale.data.names import Names
from octoscale.data.pack.destination import begin, clear_old, refuse_inside, store_of, whole_report
from octoscale.data.pack.layout import assign_shards, image_offsets, run_starts
from octoscale.data.pack.report import REPORT_NAME, PackReport, Progress, silent
from octoscale.data.pack.rules import Rules, Selection, choose
from octoscale.data.pack.shards import write_shards
from octoscale.data.pack.state import PackState
from octoscale.data.pack.verify import verify
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.data.workers import Workers
from octoscale.errors import OctoscaleError


def pack(
    source: str | Source,
    destination_url: str,
    *,
    rules: Rules | None = None,
    shard_bytes: int = 64 * 2**20,
    image_size: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    workers: int = 1,
    storage: StorageConfig | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack the images of `source` into a data set at `destination_url`.

    Every image is decoded before it is accepted and keeps its original bytes, unless it is aligned. The manifest is
    written last. What an interrupted packing has done stays under ``packing/`` of the destination, for `resume`.

    Args:
        source: the URL of an image folder, a list, a table or a RecordIO file, or an opened source.
        shard_bytes: about the size of one shard.
        image_size: height and width that every image must have, in pixels; None takes the first good image's.
        seed: of the order of the images in the shards, and of the split.
        overwrite: replace the data set at the destination.
        resume: go on with an interrupted packing of the same source and settings, with `overwrite` too; begin if there
            is none.
        workers: processes that read and decode; the data set is the same for any number.
        storage: how both are reached; None: by the defaults.
        progress: called as (stage, images done, images in all); stage is "verify" or "write".

    Returns:
        The report: counts, and every excluded image and identity with its cause. Of a split it is that of the
        part ``train``, with the other's as `held_out`.

    Raises:
        OctoscaleError: an unusable source or destination, or no identity with enough good images.
    """
    rules, progress = rules or Rules(), progress or silent
    storage = storage or StorageConfig()
    destination = Store(destination_url, storage)
    if isinstance(source, str):
        refuse_inside(Store(source, storage), destination, rules)
        source = open_source(source, storage=storage)
    refuse_inside(Store(source.url, storage), destination, rules)
    if rules.aligned and not source.may_have_landmarks():
        raise OctoscaleError(
            f"{source.url} has no landmarks to align by; give ten numbers after each label of a list, "
            "or the columns x1, y1, … x5, y5 of a table"
        )
    settings = rules.as_settings() | {
        "source": source.url, "source_fingerprint": source.fingerprint(), "shard_bytes": shard_bytes,
        "image_size": image_size, "seed": seed,
    }  # fmt: skip
    state = begin(destination, rules, settings, overwrite=overwrite, resume=resume)
    if (report := whole_report(destination, rules, state)) is not None:
        state.clear()
        return report
    with Workers(workers) as processes:
        verified = verify(source, state, aligned=rules.aligned, workers=processes, progress=progress)
        try:
            chosen = choose(source, verified, rules, image_size, seed)
        except OctoscaleError:
            # The source's fault: the same packing would end the same way.
            state.clear()
            raise
        del verified
        clear_old(destination, rules, state)
        layouts = [
            assign_shards(selection.identity_offsets, selection.sizes, shard_bytes, seed)
            for selection in chosen.selections
        ]
        written = _write_parts(source, chosen.selections, layouts, destination, state, rules, processes, progress)
    reports = [PackReport.of(manifest) for _, manifest in written]
    # What is in no part is told in the first one's report.
    reports[0] = replace(
        reports[0],
        excluded_images=tuple(chosen.excluded_images),
        excluded_identities=tuple(chosen.excluded_identities),
        unknown_exclusions=chosen.unknown_exclusions,
    )
    for (store, _), report in zip(written, reports, strict=True):
        store.write(REPORT_NAME, report.dump())
    # From here on the data set is whole as soon as all its manifests are there, whatever is left to be cleared.
    state.set_fingerprints({part: report.fingerprint for part, report in zip(rules.parts, reports, strict=True)})
    for store, manifest in written:
        store.write(MANIFEST_NAME, manifest.dump())
    state.clear()
    return reports[0].with_held_out(*reports[1:])


def _write_parts(
    source: Source,
    selections: tuple[Selection, ...],
    layouts: list[list[NDArray[np.int64]]],
    destination: Store,
    state: PackState,
    rules: Rules,
    workers: Workers,
    progress: Progress,
) -> list[tuple[Store, Manifest]]:
    """Shards and index of every part; the manifests, and where they go."""
    total, before = sum(len(selection.entries) for selection in selections), 0
    written = []
    with tempfile.TemporaryDirectory(prefix="octoscale-pack-") as temporary:
        entries = np.concatenate([selection.entries for selection in selections])
        source = source.near(entries, _all_run_starts(selections), Path(temporary))
        for selection, layout in zip(selections, layouts, strict=True):
            store = store_of(destination, selection.part)
            show = partial(_count_on, progress, before, total)
            shards = write_shards(
                source, selection, layout, store, state, aligned=rules.aligned, workers=workers, progress=show
            )
            written.append((store, _write_index(source, selection, layout, shards, store)))
            before += len(selection.entries)
    return written


def _write_index(
    source: Source,
    selection: Selection,
    layout: list[NDArray[np.int64]],
    shards: tuple[Shard, ...],
    destination: Store,
) -> Manifest:
    arrays: dict[str, NDArray[np.generic]] = {
        "shard_ids": np.zeros(len(selection.entries), np.int32),
        "offsets": np.zeros(len(selection.entries), np.int64),
        "sizes": selection.sizes,
        "crc32": selection.crc32,
        "identity_offsets": selection.identity_offsets,
    }
    for shard_id, rows in enumerate(layout):
        arrays["shard_ids"][rows] = shard_id
        arrays["offsets"][rows] = image_offsets(selection.sizes[rows])
    names = Names(source.name(entry) for entry in selection.entries.tolist())
    return write_index(
        destination, arrays, keys=selection.keys, names=names, shards=shards, image_size=selection.image_size
    )


def _all_run_starts(selections: tuple[Selection, ...]) -> NDArray[np.int64]:
    """First rows of the runs of all parts, one part after the other."""
    starts, before = [], 0
    for selection in selections:
        starts.append(before + run_starts(selection.identity_offsets))
        before += len(selection.entries)
    return np.concatenate(starts)


def _count_on(progress: Progress, before: int, total: int, stage: str, done: int, _: int) -> None:
    """The progress of one part as that of all."""
    progress(stage, before + done, total)
