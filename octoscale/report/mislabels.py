"""Suspected mislabels: the ledger that `octoscale noise` has left in the run's directory."""

from collections.abc import Iterator, Sequence
from typing import Any

from octoscale.config import parse_config
from octoscale.errors import OctoscaleError
from octoscale.feed import open_data
from octoscale.report.charts import Lines, Series, windowed, windows
from octoscale.report.images import face_uri
from octoscale.report.items import Face, FaceGroup, Faces, Item, Missing, Section, Table, number
from octoscale.report.palette import series_color
from octoscale.report.runs import NOISE_NAME, Run

_MOST_PAIRS = 12
_MOST_POINTS = 60


def mislabels_section(runs: Sequence[Run]) -> Section:
    """How many anchors look mislabelled while training, and the most probable mislabels of the ledger."""
    items: list[Item] = list(_over_steps(runs))
    for run in runs:
        items += _of_run(run, several=len(runs) > 1)
    intro = (
        "A negative that is much nearer than the positive may be the same person under another label. "
        "octoscale noise looks for them; nothing is changed in the data set."
    )
    return Section("mislabels", "Suspected mislabels", intro, tuple(items))


def _over_steps(runs: Sequence[Run]) -> Iterator[Lines]:
    width = windows(max((run.lines[-1].step for run in runs if run.lines), default=1), _MOST_POINTS)
    series = []
    for place, run in enumerate(runs):
        values = [
            line.result.terms["hhh"].suspect_fraction if "hhh" in line.result.terms else None for line in run.lines
        ]
        x, y = windowed([line.step for line in run.lines], values, width)
        if x:
            series.append(Series(run.name if len(runs) > 1 else "hhh", series_color(place), x, y))
    if series:
        note = "Anchors whose hhh negative is at less than half the positive's squared distance."
        yield Lines("Anchors that look mislabelled", "step", "share of anchors", tuple(series), note, percent=True)


def _of_run(run: Run, *, several: bool) -> Iterator[Item]:
    prefix = f"{run.name}: " if several else ""
    if run.noise is None:
        yield Missing(
            f"{prefix}Ledger of probable mislabels",
            f"the run's directory holds no {NOISE_NAME}; make it: octoscale noise RUN --output RUN/noise",
        )
        return
    pairs = run.noise["pairs"][:_MOST_PAIRS]
    title = f"{prefix}The first {len(pairs)} of {len(run.noise['pairs']):,} suspicious pairs"
    try:
        groups = tuple(_groups(run, pairs))
    except OctoscaleError as error:
        yield _table(pairs, title)
        yield Missing(f"{prefix}Their images", f"the data set cannot be read: {error}")
        return
    note = "Positive, anchor, and the negative of another label that is too near; the misfiled image has a frame."
    yield Faces(title, groups, _table(pairs, ""), note)


def _table(pairs: Sequence[dict[str, Any]], title: str) -> Table:
    columns = ("rank", "kind", "evidence", "identity_a", "identity_b", "culprit", "triplets", "smallest_ratio")
    rows = tuple(tuple(_cell(pair.get(column, "")) for column in columns) for pair in pairs)
    return Table(tuple(column.replace("_", " ") for column in columns), rows, title)


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _groups(run: Run, pairs: Sequence[dict[str, Any]]) -> Iterator[FaceGroup]:
    assert run.noise is not None
    data = open_data(parse_config(dict(run.values), source=f"of {run.name}").reached_by(run.storage))
    if data.index.fingerprint != run.noise["survey"].get("fingerprint"):
        raise OctoscaleError("the ledger is of another data set than data.url; run octoscale noise again")
    for pair in pairs:
        faces = []
        for role in ("positive", "anchor", "negative"):
            sample_id = pair[f"{role}_sample_id"]
            image = face_uri(data.reader[sample_id])
            faces.append(Face(image, f"{role}: {pair[role]}", role, marked=sample_id == pair["culprit_sample_id"]))
        yield FaceGroup(f"{pair['rank']}  {pair['kind']}", tuple(faces), across=3)
