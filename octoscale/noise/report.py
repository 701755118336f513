"""A survey for people: a table in the terminal, CSV files and JSON."""

import csv
import io
import json
from dataclasses import asdict
from typing import Any, get_args

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octoscale.data.index import Index
from octoscale.data.reader import ImageReader
from octoscale.data.storage import Store
from octoscale.noise.figure import draw_pairs, image_name
from octoscale.noise.ledger import Kind, SuspectPair, SuspectSample
from octoscale.noise.survey import Survey

PAIRS_NAME, SAMPLES_NAME, JSON_NAME, PICTURE_NAME = "pairs.csv", "samples.csv", "noise.json", "pairs.png"
PAIR_COLUMNS = (
    "rank", "kind", "evidence", "identity_a", "identity_b", "triplets", "smallest_ratio", "cross_distance",
    "culprit", "culprit_sample_id", "anchor", "positive", "negative", "positive_distance", "negative_distance",
    "anchor_sample_id", "positive_sample_id", "negative_sample_id",
)  # fmt: skip
SAMPLE_COLUMNS = (
    "rank", "image", "sample_id", "evidence", "identity", "suggested_identity", "own_distance", "other_distance",
    "triplets",
)  # fmt: skip
_STYLES = {"same person": "magenta", "misfiled image": "red", "look-alike": "dim"}


def pair_record(index: Index, rank: int, pair: SuspectPair) -> dict[str, Any]:
    """A row of pairs.csv."""
    example = pair.example
    return {
        "rank": rank,
        "kind": pair.kind,
        "evidence": round(pair.evidence, 4),
        "identity_a": index.identity_keys[pair.identity_a],
        "identity_b": index.identity_keys[pair.identity_b],
        "triplets": pair.triplets,
        "smallest_ratio": round(example.ratio, 4),
        "cross_distance": round(pair.cross_distance, 4),
        "culprit": "" if pair.culprit is None else image_name(index, pair.culprit),
        "culprit_sample_id": "" if pair.culprit is None else pair.culprit,
        "anchor": image_name(index, example.anchor),
        "positive": image_name(index, example.positive),
        "negative": image_name(index, example.negative),
        "positive_distance": round(example.positive_distance, 4),
        "negative_distance": round(example.negative_distance, 4),
        "anchor_sample_id": example.anchor,
        "positive_sample_id": example.positive,
        "negative_sample_id": example.negative,
    }


def sample_record(index: Index, rank: int, sample: SuspectSample) -> dict[str, Any]:
    """A row of samples.csv."""
    return {
        "rank": rank,
        "image": image_name(index, sample.sample_id),
        "sample_id": sample.sample_id,
        "evidence": round(sample.evidence, 4),
        "identity": index.identity_keys[sample.identity],
        "suggested_identity": index.identity_keys[sample.suggested_identity],
        "own_distance": round(sample.own_distance, 4),
        "other_distance": round(sample.other_distance, 4),
        "triplets": sample.triplets,
    }


def as_document(survey: Survey, index: Index) -> str:
    """The whole ledger as JSON: how it was made, pairs and samples with the columns of the CSV files."""
    how = {key: value for key, value in asdict(survey).items() if key != "ledger"}
    document = {
        "survey": how | {"fingerprint": index.fingerprint},
        "pairs": _pair_records(survey, index),
        "samples": _sample_records(survey, index),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def write_ledger(survey: Survey, index: Index, reader: ImageReader, destination: Store, *, top: int) -> None:
    """Write pairs.csv, samples.csv, noise.json and a picture of the first `top` pairs; each whole or not at all."""
    destination.write(PAIRS_NAME, _csv(_pair_records(survey, index), PAIR_COLUMNS))
    destination.write(SAMPLES_NAME, _csv(_sample_records(survey, index), SAMPLE_COLUMNS))
    destination.write(JSON_NAME, as_document(survey, index).encode())
    destination.write(PICTURE_NAME, draw_pairs(survey.ledger.pairs[:top], index, reader))


def _pair_records(survey: Survey, index: Index) -> list[dict[str, Any]]:
    return [pair_record(index, rank, pair) for rank, pair in enumerate(survey.ledger.pairs, start=1)]


def _sample_records(survey: Survey, index: Index) -> list[dict[str, Any]]:
    return [sample_record(index, rank, sample) for rank, sample in enumerate(survey.ledger.samples, start=1)]


def _csv(records: list[dict[str, Any]], columns: tuple[str, ...]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def render(survey: Survey, index: Index, *, top: int) -> RenderableType:
    """The first `top` pairs as a table, and what was searched."""
    ledger = survey.ledger
    counts = {kind: sum(pair.kind == kind for pair in ledger.pairs) for kind in get_args(Kind)}
    table = Table(
        title=f"Probable mislabels: the first {min(top, len(ledger.pairs))} of {len(ledger.pairs):,} suspicious pairs",
        title_justify="left",
        show_lines=True,
    )
    for heading in ("", "evidence"):
        table.add_column(heading, justify="right")
    table.add_column("kind", no_wrap=True)
    table.add_column("identities, misfiled image", overflow="fold")
    for heading in ("triplets", "d(a,n)\n/ d(a,p)"):
        table.add_column(heading, justify="right")
    for rank, pair in enumerate(ledger.pairs[:top], start=1):
        names = Text(f"{index.identity_keys[pair.identity_a]}\n{index.identity_keys[pair.identity_b]}")
        if pair.culprit is not None:
            names.append(f"\n{image_name(index, pair.culprit)}", style=_STYLES[pair.kind])
        table.add_row(
            str(rank), f"{pair.evidence:.2f}", Text(pair.kind, style=_STYLES[pair.kind]), names,
            str(pair.triplets), f"{pair.example.ratio:.2f}",
        )  # fmt: skip
    searched = (
        f"{survey.anchors:,} anchors in {survey.batches:,} batches of {survey.global_batch_size:,}; two identities met "
        f"{survey.meetings:.2g} times on average. Strangers nearer than {survey.stranger_distance:.2f}: 1 in 1,000."
    )
    notes = [", ".join(f"{count:,} × {kind}" for kind, count in counts.items()), searched]
    if survey.meetings < 1:
        notes.append("Most mistakes need their two identities in one batch: raise --batch or --epochs.")
    return Group(table, *(Text(note, style="dim") for note in notes))
