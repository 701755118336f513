"""How the training went: what each step gave, over the steps."""

import math
from collections.abc import Callable, Sequence

from octoscale.measured import StepLine
from octoscale.report.charts import Lines, Series, windowed, windows
from octoscale.report.items import Item, Missing, Section
from octoscale.report.palette import series_color
from octoscale.report.runs import Run

# Points of a chart, and so rows of its table.
_MOST_POINTS = 60
_NO_JOURNAL = "the run has no journal: it is written with each commit, and this run has none yet"

Value = Callable[[StepLine], float | None]


def training_section(runs: Sequence[Run]) -> Section:
    """Loss, distances, embeddings and learning rate. Of one run by term, of several the runs side by side."""
    with_lines = [run for run in runs if run.lines]
    missing = [Missing("The course of the training", f"{run.name}: {_NO_JOURNAL}") for run in runs if not run.lines]
    items: list[Item] = []
    width = 1
    if with_lines:
        width = windows(max(run.lines[-1].step for run in with_lines), _MOST_POINTS)
        items = [*(_by_term(with_lines[0], width) if len(runs) == 1 else _by_run(with_lines, width))]
    per_point = "Each point is one step." if width == 1 else f"Each point is the mean of {width} steps."
    intro = (
        f"{per_point} Over the global batch. Terms name the resolutions of anchor, positive and negative: hll is high, "
        "low, low. Distances are in the metric that the run trains with."
    )
    return Section("training", "Loss, distances and embeddings", intro, (*items, *missing))


def _by_term(run: Run, width: int) -> list[Item]:
    terms = tuple(run.lines[-1].result.terms)

    def term_lines(title: str, label: str, field: str, *, percent: bool = False) -> Lines:
        series = [_series(term, number, run, width, _of_term(term, field)) for number, term in enumerate(terms)]
        return Lines(title, "step", label, tuple(series), percent=percent)

    distances = []
    for number, term in enumerate(terms):
        for name, field, dashed in (("d(a,p)", "positive_distance", False), ("d(a,n)", "negative_distance", True)):
            distances.append(_series(f"{term} {name}", number, run, width, _of_term(term, field), dashed=dashed))
    return [
        term_lines("Loss by term", "loss", "loss"),
        Lines("Distances of anchor to positive and negative", "step", "distance", tuple(distances)),
        term_lines("Triplets inside the margin", "active fraction", "active_fraction", percent=True),
        term_lines("Negatives nearer than the positive", "share of anchors", "nearer_fraction", percent=True),
        *_one_line_each([run], width, several=False),
    ]


def _by_run(runs: Sequence[Run], width: int) -> list[Item]:
    def compared(title: str, label: str, value: Value, *, percent: bool = False) -> Lines:
        series = [_series(run.name, number, run, width, value) for number, run in enumerate(runs)]
        return Lines(title, "step", label, tuple(series), percent=percent)

    distances = []
    for number, run in enumerate(runs):
        for name, field, dashed in (("d(a,p)", "positive_distance", False), ("d(a,n)", "negative_distance", True)):
            distances.append(_series(f"{run.name} {name}", number, run, width, _over_terms(field), dashed=dashed))
    return [
        compared("Loss, sum of the terms", "loss", lambda line: line.result.loss),
        Lines("Distances, mean of the terms", "step", "distance", tuple(distances)),
        compared("Triplets inside the margin, mean of the terms", "active fraction", _over_terms("active_fraction"),
                 percent=True),
        *_one_line_each(runs, width, several=True),
    ]  # fmt: skip


def _one_line_each(runs: Sequence[Run], width: int, *, several: bool) -> list[Item]:
    """What a step has one value of."""
    kinds: tuple[tuple[str, str, Value], ...] = (
        ("Embedding norm", "mean norm", lambda line: line.result.embedding_norm),
        ("Effective rank of the embeddings", "directions in use", _effective_rank),
        ("Gradient norm", "norm before clipping", lambda line: line.result.gradient_norm),
        ("Learning rate", "learning rate", lambda line: line.learning_rate),
    )
    items: list[Item] = []
    for title, label, value in kinds:
        series = [_series(run.name if several else label, number, run, width, value) for number, run in enumerate(runs)]
        known = tuple(line for line in series if line.x)
        if known:
            items.append(Lines(title, "step", label, known))
        else:
            items.append(Missing(title, "no step has measured it; lower telemetry.diagnose_every_steps"))
    return items


def _series(name: str, number: int, run: Run, width: int, value: Value, *, dashed: bool = False) -> Series:
    x, y = windowed([line.step for line in run.lines], [value(line) for line in run.lines], width)
    return Series(name, series_color(number), x, y, dashed=dashed)


def _of_term(term: str, field: str) -> Value:
    def value(line: StepLine) -> float | None:
        means = line.result.terms.get(term)
        return None if means is None else float(getattr(means, field))

    return value


def _over_terms(field: str) -> Value:
    def value(line: StepLine) -> float | None:
        values = [float(getattr(means, field)) for means in line.result.terms.values()]
        return math.fsum(values) / len(values) if values else None

    return value


def _effective_rank(line: StepLine) -> float | None:
    return None if line.result.diagnostics is None else line.result.diagnostics.effective_rank
