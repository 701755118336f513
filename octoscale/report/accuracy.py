"""How well the network verifies faces: before and after, at every resolution, on every data set."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from octoscale.evaluate.config import Mode
from octoscale.evaluate.curves import tar_of_curve
from octoscale.evaluate.evaluation import Evaluation, Score
from octoscale.evaluate.report import TITLES
from octoscale.report.charts import Change, Changes, Lines, Series
from octoscale.report.items import Item, Missing, Section, Table, percentage
from octoscale.report.palette import BEFORE, SERIES, Color, ramp_color, series_color
from octoscale.report.runs import Run

_NO_EVALUATION = "the run has no evaluation; set evaluate.pairs and evaluate.images to have one before and one after"
_ROC_POINTS = 41
# Of the normal distribution: 95 % lie within.
_DEVIATIONS = 1.959964


@dataclass(frozen=True)
class Evaluated:
    """A run's evaluations on one data set; `before` is None where only one is comparable."""

    run: Run
    data_set: str
    before: Evaluation | None
    after: Evaluation


def evaluated(runs: Sequence[Run]) -> list[Evaluated]:
    """Each run on each data set: its first evaluation and its newest."""
    found = []
    for run in runs:
        for data_set, evaluations in run.evaluations.items():
            first, last = evaluations[0], evaluations[-1]
            # The configuration may have changed since the start: only like is shown beside like.
            alike = first.flip == last.flip and first.scores.keys() == last.scores.keys()
            found.append(Evaluated(run, data_set, first if alike and first.step < last.step else None, last))
    return found


def interval(accuracy: float, pairs: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a share that was found in `pairs` pairs."""
    z, n = _DEVIATIONS, pairs
    middle = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    # Rounding must not put the value itself outside.
    return min(accuracy, middle - half), max(accuracy, middle + half)


def accuracy_section(runs: Sequence[Run]) -> Section:
    """Accuracy by resolution, and how it came about."""
    items: list[Item] = []
    everyone = evaluated(runs)
    for data_set, mode, group in _panels(everyone):
        items.append(_by_resolution(data_set, mode, group, several=len(runs) > 1))
    items += [chart for run in runs for chart in _over_steps(run, several=len(runs) > 1)]
    items += [_operating_points(one, several=len(runs) > 1) for one in everyone]
    items += _without(runs, "Accuracy")
    intro = (
        "10-fold verification accuracy. Cross-resolution: the second image of each pair is reduced to the resolution; "
        "same resolution: both are. Bars are 95 % confidence intervals."
    )
    return Section("accuracy", "Accuracy by resolution", intro, tuple(items))


def roc_section(runs: Sequence[Run]) -> Section:
    """The paper's figure 2: of one run all resolutions in one chart, of several all runs in one chart a resolution."""
    items: list[Item] = []
    for data_set, mode, group in _panels(evaluated(runs)):
        if len(runs) == 1:
            items.append(_roc_by_resolution(data_set, mode, group[0]))
        else:
            items += _roc_by_run(data_set, mode, group)
    items += _without(runs, "ROC curves")
    intro = (
        "Receiver operating characteristic (the paper's figure 2): solid after the training, dashed before. The dotted "
        "line is the equal error rate; a curve meets it where its false accepts and false rejects are equally frequent."
    )
    return Section("roc", "ROC curves", intro, tuple(items))


def data_sets_section(runs: Sequence[Run]) -> Section | None:
    """The paper's figure 3; None where there is one data set alone."""
    everyone = evaluated(runs)
    if len({one.data_set for one in everyone}) < 2:
        return None
    items: list[Item] = []
    for run in runs:
        mine = [one for one in everyone if one.run is run and one.before is not None]
        for mode in _modes(mine):
            items.append(Changes(_of(f"{TITLES[mode]}", run, runs), "accuracy", tuple(_changes(mine, mode))))
    intro = (
        "Accuracy by data set and resolution (the paper's figure 3): pale is what held before, full what the training "
        "gained, crossed what it lost."
    )
    return Section("data-sets", "Accuracy by data set", intro, tuple(items))


def _panels(everyone: Sequence[Evaluated]) -> Iterator[tuple[str, Mode, list[Evaluated]]]:
    """One for each data set and mode, with the runs that have it."""
    for data_set in dict.fromkeys(one.data_set for one in everyone):
        group = [one for one in everyone if one.data_set == data_set]
        for mode in _modes(group):
            yield data_set, mode, [one for one in group if mode in one.after.modes]


def _modes(group: Sequence[Evaluated]) -> tuple[Mode, ...]:
    return tuple(dict.fromkeys(mode for one in group for mode in one.after.modes))


def _by_resolution(data_set: str, mode: Mode, group: list[Evaluated], *, several: bool) -> Lines:
    series = []
    for number, one in enumerate(group):
        color = series_color(number) if several else SERIES[0]
        if one.before is not None:
            before = color if several else BEFORE
            series.append(_accuracies(_name("before", one, several), before, one.before, mode, dashed=True))
        series.append(_accuracies(_name("after", one, several), color, one.after, mode, dashed=False))
    ticks = tuple(float(r) for r in dict.fromkeys(r for one in group for r in one.after.resolutions))
    return Lines(
        f"{data_set}, {TITLES[mode]}", "image resolution, px", "accuracy", tuple(series),
        percent=True, x_scale="log", ticks=ticks,
    )  # fmt: skip


def _accuracies(name: str, color: Color, evaluation: Evaluation, mode: Mode, *, dashed: bool) -> Series:
    pairs = evaluation.genuine_pairs + evaluation.impostor_pairs
    scores = [evaluation.scores[mode, resolution] for resolution in evaluation.resolutions]
    accuracies = tuple(score.accuracy for score in scores)
    intervals = [score.intervals.get("accuracy") or interval(score.accuracy, pairs) for score in scores]
    low, high = zip(*intervals, strict=True)
    mean = percentage(evaluation.mean_accuracy(mode))
    return Series(
        f"{name}, mean {mean} %", color, tuple(map(float, evaluation.resolutions)), accuracies, low, high, dashed
    )


def _over_steps(run: Run, *, several: bool) -> Iterator[Lines]:
    for data_set, evaluations in run.evaluations.items():
        if len(evaluations) > 2:
            steps = tuple(float(one.step) for one in evaluations)
            series = tuple(
                Series(TITLES[mode], series_color(number), steps, tuple(one.mean_accuracy(mode) for one in evaluations))
                for number, mode in enumerate(evaluations[-1].modes)
                if all(mode in one.modes for one in evaluations)
            )
            title = f"{run.name}, {data_set}" if several else data_set
            yield Lines(f"{title}, during the training", "step", "mean accuracy", series, percent=True)


def _operating_points(one: Evaluated, *, several: bool) -> Table:
    # The others take more impostor pairs than there are.
    fars = [far for far, tar in next(iter(one.after.scores.values())).tar_at_far.items() if tar is not None]
    rows = []
    for (mode, resolution), score in one.after.scores.items():
        before = None if one.before is None else one.before.scores[mode, resolution]
        shown = [before, score] if before is not None else [score]
        rows.append(
            (
                f"{mode}, {resolution} px",
                _arrow([each.equal_error_rate for each in shown]),
                _arrow([each.area_under_curve for each in shown]),
                *(_arrow([each.tar_at_far.get(far) for each in shown]) for far in fars),
            )
        )
    pairs = f"{one.after.genuine_pairs:,} genuine and {one.after.impostor_pairs:,} impostor pairs"
    title = f"{one.run.name}, {one.data_set}" if several else one.data_set
    return Table(
        ("", "equal error rate, %", "area under ROC, %", *(f"TAR at FAR {far:g}, %" for far in fars)),
        tuple(rows),
        f"Operating points: {title}, {pairs}",
    )


def _arrow(values: Sequence[float | None]) -> str:
    return "–" if not any(value is not None for value in values) else " → ".join(map(percentage, values))


def _roc_by_resolution(data_set: str, mode: Mode, one: Evaluated) -> Lines:
    resolutions = one.after.resolutions
    series = []
    for number, resolution in enumerate(resolutions):
        color = ramp_color(number, len(resolutions))
        if one.before is not None:
            series.append(_curve(f"{resolution} px before", color, one.before, mode, resolution, dashed=True))
        series.append(_curve(f"{resolution} px after", color, one.after, mode, resolution, dashed=False))
    return _roc(f"{data_set}, {TITLES[mode]}", series)


def _roc_by_run(data_set: str, mode: Mode, group: list[Evaluated]) -> Iterator[Lines]:
    for resolution in dict.fromkeys(resolution for one in group for resolution in one.after.resolutions):
        series = []
        for number, one in enumerate(group):
            if resolution not in one.after.resolutions:
                continue
            if one.before is not None:
                name = _name("before", one, several=True)
                series.append(_curve(name, series_color(number), one.before, mode, resolution, dashed=True))
            name = _name("after", one, several=True)
            series.append(_curve(name, series_color(number), one.after, mode, resolution, dashed=False))
        yield _roc(f"{data_set}, {TITLES[mode]}, {resolution} px", series)


def _roc(title: str, series: Sequence[Series]) -> Lines:
    return Lines(
        title, "false accept rate", "true accept rate", tuple(series),
        percent=True, x_scale="log", steps=True, diagonal="equal error rate",
    )  # fmt: skip


def _curve(name: str, color: Color, evaluation: Evaluation, mode: Mode, resolution: int, *, dashed: bool) -> Series:
    score: Score = evaluation.scores[mode, resolution]
    # From one impostor pair on.
    fars = np.geomspace(1 / evaluation.impostor_pairs, 1, _ROC_POINTS)
    tars = tar_of_curve(score.curve, fars)
    name = f"{name}, EER {percentage(score.equal_error_rate)} %"
    return Series(name, color, tuple(map(float, fars)), tuple(map(float, tars)), dashed=dashed)


def _changes(mine: Sequence[Evaluated], mode: Mode) -> Iterator[Change]:
    for one in mine:
        assert one.before is not None
        for number, resolution in enumerate(one.after.resolutions if mode in one.after.modes else ()):
            before, after = (each.scores[mode, resolution].accuracy for each in (one.before, one.after))
            color = ramp_color(number, len(one.after.resolutions))
            yield Change(one.data_set, f"{resolution} px", color, before, after)


def _name(when: str, one: Evaluated, several: bool) -> str:
    return f"{one.run.name} {when}" if several else when


def _of(title: str, run: Run, runs: Sequence[Run]) -> str:
    return title if len(runs) == 1 else f"{run.name}, {title}"


def _without(runs: Sequence[Run], what: str) -> list[Missing]:
    return [Missing(_of(what, run, runs), _NO_EVALUATION) for run in runs if not run.evaluations]
