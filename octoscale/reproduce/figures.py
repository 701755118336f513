"""Figures 2, 3 and 4 of the paper, drawn from evaluations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.report import before_and_after_lines, draw_roc_panel
from octoscale.evaluate.style import BEFORE, DASHES, INK, save, shades, tidy
from octoscale.reproduce.margins import shown

# Okabe and Ito's, darkened where thin lines on white need it; and marks, so that no line depends on its colour.
_SERIES = ("#0072b2", "#c75200", "#008061", "#b4418e", "#8a6d00", "#5b4bd6", "#a3262a", "#3f7f93")
_MARKS = "osD^vP*X"
_DPI = 160
_PANELS_IN_A_ROW = 4

# By data set: the network before and after.
Pair = tuple[Evaluation, Evaluation]


def shown_resolutions(evaluation: Evaluation, wanted: Sequence[int] = ()) -> tuple[int, ...]:
    """The resolutions of a data set that are drawn: the wanted ones, else all.

    Of XQLFW the highest alone: its pairs differ in resolution as they are.
    """
    if evaluation.varies_in_resolution:
        return evaluation.resolutions[-1:]
    return tuple(each for each in evaluation.resolutions if each in wanted) or evaluation.resolutions


def accuracies(pair: Pair) -> dict[int, tuple[float, float]]:
    """Before and after at each resolution that is drawn, in %."""
    before, after = (evaluation.scores for evaluation in pair)
    return {
        each: (100 * before["cross", each].accuracy, 100 * after["cross", each].accuracy)
        for each in shown_resolutions(pair[1])
    }


def draw_figure2(sets: Mapping[str, Pair], path: Path, resolutions: Sequence[int] = ()) -> None:
    """ROC curves before (dashed) and after (solid), a panel for each data set, cross-resolution."""
    columns = min(len(sets), _PANELS_IN_A_ROW)
    rows = -(-len(sets) // columns)
    figure = Figure(figsize=(5.2 * columns + 0.6, 5.7 * rows + 0.2), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (name, (before, after)) in zip(panels.flat, sets.items(), strict=False):
        tidy(axes, title=name, subtitle=f"{after.genuine_pairs + after.impostor_pairs:,} pairs, cross-resolution")
        drawn = shown_resolutions(after, resolutions)
        draw_roc_panel(axes, after, "cross", before=before, resolutions=drawn)
    for axes in panels.flat[len(sets) :]:
        axes.remove()
    for row in panels:
        row[0].set_ylabel("true accept rate", color=INK)
    figure.legend(handles=before_and_after_lines(), loc="outside lower center", ncols=2, frameon=False, labelcolor=INK)
    save(figure, path, dpi=_DPI)


def draw_figure3(sets: Mapping[str, Pair], path: Path) -> None:
    """A bar for each data set and resolution: what was there before, and darker or lighter what has changed."""
    resolutions = tuple(sorted({each for _, after in sets.values() for each in after.resolutions}))
    colors = dict(zip(resolutions, shades(len(resolutions)), strict=True))
    values = {name: accuracies(pair) for name, pair in sets.items()}
    bars = sum(len(each) for each in values.values())
    figure = Figure(figsize=(max(6.4, 0.52 * bars + 0.7 * len(sets) + 1.2), 4.9), layout="constrained")
    axes = figure.subplots()
    tidy(axes, title="Cross-resolution accuracy before and after", subtitle="second image of each pair degraded")
    axes.grid(visible=False, axis="x")
    scores = [score for by_resolution in values.values() for score in by_resolution.values()]
    bottom = min(50.0, *(float(np.floor(min(score) / 5) * 5) for score in scores))
    left, centres = 0.0, []
    for by_resolution in values.values():
        for resolution, (before, after) in by_resolution.items():
            _draw_bar(axes, left, bottom, before, after, colors[resolution])
            left += 1
        centres.append(left - (len(by_resolution) + 1) / 2)
        left += 0.8
    axes.set_xticks(centres, list(sets))
    axes.set_xlim(-0.8, left - 1)
    axes.set_ylim(bottom, 103)
    axes.set_ylabel("10-fold accuracy, %", color=INK)
    handles = [Patch(color=colors[each], label=f"{each} px") for each in resolutions]
    handles += [
        Patch(color=_tint(INK, 0.55), label="before"), Patch(color=INK, label="gained"),
        Patch(facecolor=_tint(INK, 0.12), edgecolor=INK, linewidth=0.8, label="lost"),
    ]  # fmt: skip
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 8), frameon=False, labelcolor=INK
    )
    save(figure, path, dpi=_DPI)


def draw_figure4(
    accuracies: Mapping[int, Mapping[float, float]], path: Path, *, metric: str, before: float | None
) -> None:
    """Mean cross-resolution accuracy over the margin, a line for each batch size.

    Args:
        accuracies: fractions, by batch size and margin; at least one.
        metric: of the margins, for the axis.
        before: the network before the training; None: not known.
    """
    figure = Figure(figsize=(7.4, 4.9), layout="constrained")
    axes = figure.subplots()
    tidy(axes, title="Margin and batch size", subtitle="cross-resolution accuracy, mean over the resolutions")
    for number, (batch, by_margin) in enumerate(sorted(accuracies.items())):
        margins = sorted(by_margin)
        axes.plot(
            margins, [100 * by_margin[margin] for margin in margins], label=f"batch of {batch:,}",
            color=_SERIES[number % len(_SERIES)], marker=_MARKS[number % len(_MARKS)],
            linewidth=2, markersize=6, clip_on=False,
        )  # fmt: skip
    if before is not None:
        axes.axhline(100 * before, color=BEFORE, linestyle=DASHES, linewidth=1.6, label="before fine-tuning")
    margins = sorted({margin for by_margin in accuracies.values() for margin in by_margin})
    # A margin of 0 has no logarithm: a short straight piece at the left takes it in.
    positive = [margin for margin in margins if margin > 0] or [1.0]
    if margins[0] == 0:
        axes.set_xscale("symlog", linthresh=positive[0])
    else:
        axes.set_xscale("log")
    axes.set_xticks(margins, [shown(margin) for margin in margins])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.06, y=0.12)
    axes.set_xlabel(f"margin ({metric})", color=INK)
    axes.set_ylabel("mean 10-fold accuracy, %", color=INK)
    figure.legend(loc="outside lower center", ncols=min(len(accuracies) + 1, 5), frameon=False, labelcolor=INK)
    save(figure, path, dpi=_DPI)


def _draw_bar(axes: Any, left: float, bottom: float, before: float, after: float, color: Any) -> None:
    kept = min(before, after)
    axes.bar(left, kept - bottom, bottom=bottom, width=0.86, color=_tint(color, 0.55))
    if after >= before:
        axes.bar(left, after - before, bottom=before, width=0.86, color=color)
    else:
        axes.bar(
            left, before - after, bottom=after, width=0.86, color=_tint(color, 0.12), edgecolor=color, linewidth=0.8
        )
    axes.text(left, max(before, after) + 0.6, f"{after:.1f}", ha="center", va="bottom", fontsize=7.5, color=INK)


def _tint(color: Any, strength: float) -> tuple[float, ...]:
    """The colour mixed with white: 1 is itself."""
    return tuple(1 - strength * (1 - part) for part in to_rgb(color))
