"""A data set for people and for programs."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from octoscale.data.inspection.duplicates import Duplicates
from octoscale.data.inspection.view import View

# First counts of the bins.
_BINS = (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_BAR_WIDTH = 40
_SHOWN = 10


@dataclass(frozen=True)
class Bin:
    """Identities with `least` to `most` images, and how many images these are."""

    least: int
    most: int
    identities: int
    images: int


def histogram(images_per_identity: NDArray[np.int64]) -> list[Bin]:
    """From the first bin that has somebody to the last."""
    edges = [*_BINS, max(_BINS[-1] * 2, int(images_per_identity.max()) + 1)]
    bins = []
    for least, end in pairwise(edges):
        counts = images_per_identity[(images_per_identity >= least) & (images_per_identity < end)]
        bins.append(Bin(least, end - 1, len(counts), int(counts.sum())))
    filled = [number for number, item in enumerate(bins) if item.identities]
    return bins[filled[0] : filled[-1] + 1]


def as_document(view: View, duplicates: Duplicates) -> str:
    """Everything as JSON."""
    return json.dumps(_document(view, duplicates), indent=1, ensure_ascii=False) + "\n"


def _document(view: View, duplicates: Duplicates) -> dict[str, Any]:
    index = view.index
    counts, sizes = index.images_per_identity, np.asarray(index.sizes)
    return {
        "url": view.store.url,
        "fingerprint": index.fingerprint,
        "images": len(index),
        "identities": index.identity_count,
        "image_size": index.image_size,
        "shards": len(index.manifest.shards),
        "size_bytes": sum(shard.size_bytes for shard in index.manifest.shards),
        "largest_global_batch": 2 * index.identity_count,
        "image_bytes": {"min": int(sizes.min()), "median": int(np.median(sizes)), "max": int(sizes.max())},
        "images_per_identity": {
            "min": int(counts.min()),
            "median": float(np.median(counts)),
            "mean": float(counts.mean()),
            "max": int(counts.max()),
            "histogram": [asdict(item) for item in histogram(counts)],
        },
        "duplicates": {
            name: [[_sample(view, sample_id) for sample_id in group] for group in groups]
            for name, groups in asdict(duplicates).items()
        },
    }


def _sample(view: View, sample_id: int) -> dict[str, Any]:
    identity = int(view.index.identity_of(np.array(sample_id)))
    return {
        "sample_id": sample_id,
        "identity": view.index.identity_keys[identity],
        "name": view.index.sample_name(sample_id),
    }


def render(view: View, duplicates: Duplicates) -> Iterator[str | Table]:
    """Lines and a table for the terminal."""
    index, counts, sizes = view.index, view.index.images_per_identity, np.asarray(view.index.sizes)
    for name, value in (
        ("images", f"{len(index):,}"),
        ("identities", f"{index.identity_count:,}"),
        (
            "images per identity",
            f"{counts.min()} to {counts.max()}, median {np.median(counts):g}, mean {counts.mean():.1f}",
        ),
        ("image size", f"{index.image_size} px"),
        ("image bytes", f"{sizes.min():,} to {sizes.max():,}, median {np.median(sizes):,.0f}"),
        ("shards", f"{len(index.manifest.shards)}"),
        ("size", f"{sum(shard.size_bytes for shard in index.manifest.shards) / 2**20:.1f} MiB"),
        ("largest global batch", f"{2 * index.identity_count:,}"),
        ("fingerprint", index.fingerprint),
        ("duplicates", _count(duplicates)),
    ):
        yield f"{name:22}{value}"
    yield _table(histogram(counts))
    if duplicates.across:
        yield f"Warning: {len(duplicates.across)} images stand under several identities, probably wrong labels:"
        for group in duplicates.across[:_SHOWN]:
            samples = [_sample(view, sample_id) for sample_id in group]
            yield "  " + " = ".join(f"{sample['name']} ({sample['identity']})" for sample in samples)
        if len(duplicates.across) > _SHOWN:
            yield f"  … and {len(duplicates.across) - _SHOWN} more; all of them with --json"


def _count(duplicates: Duplicates) -> str:
    if not (duplicates.within or duplicates.across):
        return "none"
    return f"{len(duplicates.within):,} images are there again under the same identity, " + (
        f"{len(duplicates.across):,} under another"
    )


def _table(bins: list[Bin]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("images each", "identities", "images"):
        table.add_column(heading, justify="right")
    table.add_column("share of identities")
    total = sum(item.identities for item in bins)
    for item in bins:
        name = f"{item.least:,}" if item.least == item.most else f"{item.least:,}–{item.most:,}"
        share = item.identities / total
        # Rounded up: who is there is seen.
        bar = "█" * -(-int(share * 1000) * _BAR_WIDTH // 1000) if item.identities else ""
        table.add_row(name, f"{item.identities:,}", f"{item.images:,}", f"{bar} {share:.1%}")
    return table
