"""Evaluations for people: tables in the terminal, and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, PercentFormatter
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octoscale.evaluate.compared_table import signed_points
from octoscale.evaluate.config import Mode
from octoscale.evaluate.curves import fewest_impostors
from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.style import AFTER, BEFORE, DASHES, INK, save, shades, size_text, tidy
from octoscale.evaluate.templates import TemplateEvaluation

TITLES: dict[Mode, str] = {"cross": "cross-resolution", "same": "same resolution"}
_MEANING: dict[Mode, str] = {"cross": "second image of each pair degraded", "same": "both images degraded"}


def render(evaluation: Evaluation, baseline: Evaluation | None = None) -> RenderableType:
    """Tables of all scores in %, with the change of accuracy since `baseline` in points."""
    tar_at_far = next(iter(evaluation.scores.values())).tar_at_far
    there = f"impostor pairs; there are {evaluation.impostor_pairs:,}"
    notes = [
        Text(f"TAR at FAR {far:g} takes {fewest_impostors(far):,} {there}", style="dim")
        for far, tar in tar_at_far.items()
        if tar is None
    ]
    return Group(_accuracies(evaluation, baseline), _operating_points(evaluation), *notes)


def _accuracies(evaluation: Evaluation, baseline: Evaluation | None) -> Table:
    pairs = f"{evaluation.genuine_pairs + evaluation.impostor_pairs:,} pairs"
    title = f"Verification accuracy, % ({evaluation.name or evaluation.protocol}, {pairs})"
    table = Table("", title=title, title_justify="left")
    for resolution in evaluation.resolutions:
        table.add_column(f"{resolution} px", justify="right")
    table.add_column("mean", justify="right", style="bold")
    for mode in evaluation.modes:
        after = _percentages(evaluation, mode)
        table.add_section()
        if baseline is None or mode not in baseline.modes or baseline.resolutions != evaluation.resolutions:
            table.add_row(mode, *(f"{value:.2f}" for value in after))
            intervals = [evaluation.scores[mode, size].intervals.get("accuracy") for size in evaluation.resolutions]
            shown = [f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}" for interval in intervals if interval]
            if shown:
                table.add_row("95 %", *shown, style="dim")
            continue
        before = _percentages(baseline, mode)
        table.add_row(f"{mode}, step {baseline.step}", *(f"{value:.2f}" for value in before), style="dim")
        table.add_row(f"{mode}, step {evaluation.step}", *(f"{value:.2f}" for value in after))
        table.add_row("change", *(_signed(value - old) for value, old in zip(after, before, strict=True)))
    return table


def _percentages(evaluation: Evaluation, mode: Mode) -> list[float]:
    """The accuracy at each resolution, then their mean."""
    accuracies = [evaluation.scores[mode, resolution].accuracy for resolution in evaluation.resolutions]
    return [100 * accuracy for accuracy in (*accuracies, evaluation.mean_accuracy(mode))]


def _signed(change: float) -> Text:
    text = signed_points(change)
    return Text(text, style={"+": "green", "-": "red"}.get(text[0], "dim"))


def _operating_points(evaluation: Evaluation) -> Table:
    table = Table("", title="Operating points, %", title_justify="left")
    for heading in ("resolution", "equal\nerror rate", "area\nunder ROC"):
        table.add_column(heading, justify="right")
    # The others have their note.
    measurable = [far for far, tar in next(iter(evaluation.scores.values())).tar_at_far.items() if tar is not None]
    for far in measurable:
        table.add_column(f"TAR at\nFAR {far:g}", justify="right")
    for mode in evaluation.modes:
        table.add_section()
        for resolution in evaluation.resolutions:
            score = evaluation.scores[mode, resolution]
            tars = (f"{100 * (score.tar_at_far[far] or 0):.2f}" for far in measurable)
            rates = (f"{100 * score.equal_error_rate:.2f}", f"{100 * score.area_under_curve:.2f}", *tars)
            table.add_row(mode, f"{resolution} px", *rates)
    return table


def draw_accuracy_by_resolution(before: Evaluation, after: Evaluation, path: str | Path) -> None:
    """Draw the accuracy at each resolution before and after, one panel per mode, as a PNG.

    Args:
        before, after: evaluated in the same modes at the same resolutions.
        path: a local file to write.
    """
    figure = Figure(figsize=(5.6 * len(after.modes) + 0.4, 4.8), layout="constrained")
    panels = figure.subplots(1, len(after.modes), sharey=True, squeeze=False)[0]
    lowest = min(score.accuracy for evaluation in (before, after) for score in evaluation.scores.values())
    for axes, mode in zip(panels, after.modes, strict=True):
        tidy(axes, title=TITLES[mode], subtitle=_MEANING[mode])
        lines = {"before": (before, BEFORE, DASHES), "after": (after, AFTER, "solid")}
        for label, (evaluation, color, style) in lines.items():
            percentages = _percentages(evaluation, mode)
            axes.plot(
                after.resolutions, percentages[:-1], label=f"{label}, mean {percentages[-1]:.2f} %",
                color=color, linestyle=style, linewidth=2, marker="o", markersize=6, clip_on=False,
            )  # fmt: skip
        for resolution in after.resolutions:
            _write_values(axes, resolution, before.scores[mode, resolution].accuracy,
                          after.scores[mode, resolution].accuracy)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(after.resolutions, [f"{resolution}" for resolution in after.resolutions])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("image resolution, px", color=INK)
        axes.margins(x=0.11)
        axes.legend(loc="lower right", frameon=False, labelcolor=INK)
    panels[0].set_ylim(min(50.0, 100 * lowest) - 4, 103)
    panels[0].set_ylabel("10-fold accuracy, %", color=INK)
    save(figure, path)


def _write_values(axes: Any, resolution: int, before: float, after: float) -> None:
    """Both values beside their points, where a rising line leaves room; equal values once."""
    texts = {after: AFTER} if f"{before:.3f}" == f"{after:.3f}" else {before: BEFORE, after: AFTER}
    for value, color in texts.items():
        side = 1 if value == max(texts) else -1  # the higher up and left, the lower down and right
        axes.annotate(
            f"{100 * value:.1f}", (resolution, 100 * value), (-3 * side, 6 * side), textcoords="offset points",
            ha="right" if side > 0 else "left", va="bottom" if side > 0 else "top", color=color,
            fontsize=9, fontweight="bold",
        )  # fmt: skip


def draw_roc(
    after: Evaluation, path: str | Path, *, before: Evaluation | None = None, modes: Sequence[Mode] | None = None
) -> None:
    """Draw the ROC at each resolution (paper, figure 2), one panel per mode, as a PNG.

    Args:
        after: solid lines.
        path: a local file to write.
        before: dashed lines, if given; in the modes and at the resolutions of `after`.
        modes: the modes to draw; None for those of `after`.
    """
    modes = modes or after.modes
    figure = Figure(figsize=(5.6 * len(modes) + 0.4, 5.4), layout="constrained")
    panels = figure.subplots(1, len(modes), sharey=True, squeeze=False)[0]
    for axes, mode in zip(panels, modes, strict=True):
        tidy(axes, title=TITLES[mode], subtitle=_MEANING[mode])
        draw_roc_panel(axes, after, mode, before=before)
    panels[0].set_ylabel("true accept rate", color=INK)
    if before is not None:
        figure.legend(
            handles=before_and_after_lines(), loc="outside lower center", ncols=2, frameon=False, labelcolor=INK
        )
    save(figure, path)


def draw_roc_panel(
    axes: Any,
    after: Evaluation,
    mode: Mode,
    *,
    before: Evaluation | None = None,
    resolutions: Sequence[int] | None = None,
) -> None:
    """One panel of `draw_roc`: the curves of one mode, with their legend, at the resolutions given or all."""
    resolutions = resolutions or after.resolutions
    lowest_far = 1 / after.impostor_pairs  # one impostor pair
    # Of all of them, so that a resolution has one colour in every panel.
    colors = dict(zip(after.resolutions, shades(len(after.resolutions)), strict=True))
    for resolution in resolutions:
        color = colors[resolution]
        rates = f"{100 * after.scores[mode, resolution].equal_error_rate:.1f} %"
        if before is not None:
            rates = f"{100 * before.scores[mode, resolution].equal_error_rate:.1f} → {rates}"
            _draw_curve(axes, before.scores[mode, resolution].curve, lowest_far, color=color, linestyle=DASHES)
        label = f"{resolution} px, EER {rates}"
        _draw_curve(axes, after.scores[mode, resolution].curve, lowest_far, color=color, linewidth=2, label=label)
    _finish_roc(axes, lowest_far)


def draw_template_roc(evaluation: TemplateEvaluation, path: str | Path) -> None:
    """Draw the ROC of templates at each resolution in one panel, as a PNG.

    Args:
        path: a local file to write.
    """
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axes = figure.subplots()
    tidy(axes, title=evaluation.name or evaluation.protocol, subtitle=f"{evaluation.templates:,} templates")
    lowest_far = 1 / evaluation.impostor_pairs
    colors = shades(len(evaluation.scores))
    for (resolution, score), color in zip(evaluation.scores.items(), colors, strict=True):
        label = f"{size_text(resolution)}, EER {100 * score.equal_error_rate:.1f} %"
        _draw_curve(axes, score.curve, lowest_far, color=color, linewidth=2, label=label)
    _finish_roc(axes, lowest_far)
    axes.set_ylabel("true accept rate", color=INK)
    save(figure, path)


def _finish_roc(axes: Any, lowest_far: float) -> None:
    """The line of equal error rates, axes and legend."""
    grid = np.geomspace(lowest_far, 1, 400)
    axes.plot(grid, 1 - grid, color=INK, linestyle="dotted", label="equal error rate")
    axes.set_xscale("log")
    axes.set_xlim(lowest_far, 1)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("false accept rate", color=INK)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=9, frameon=False, labelcolor=INK)


def before_and_after_lines() -> list[Line2D]:
    """What dashed and solid lines mean, for a figure's legend."""
    styles = (("before", DASHES, 1.4), ("after", "solid", 2.0))
    return [Line2D([], [], color=INK, linestyle=style, linewidth=width, label=label) for label, style, width in styles]


def _draw_curve(axes: Any, curve: Sequence[tuple[float, float]], lowest_far: float, **style: Any) -> None:
    far, tar = np.array(curve).T
    # What lies left of the axis: only the point that holds at its start.
    shown = np.append(far[1:] > lowest_far * (1 + 1e-9), True)
    axes.step(far[shown].clip(lowest_far), tar[shown], where="post", **{"linewidth": 1.4, **style})
