"""The picture of `tools/bench/batch_size.py`: accuracy against the global batch size."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from octoscale.evaluate.style import BEFORE, DASHES, INK, tidy

_COLOURS = {"equal_images": "#0072b2", "equal_steps": "#c75200"}
_PANELS = {"held_out": ("Identities held out", "1,800 pairs"), "shared": ("Published pairs", "600 pairs")}


def draw(report: dict[str, Any], path: Path, *, images: int, steps: int) -> None:
    """One panel per set of pairs, one line for as many images seen and one for as many steps, as a PNG.

    Bars are the mean of the resolutions' 95 % intervals, which is at least as wide as the interval of the mean.
    """
    names = {"equal_images": f"as many images: {images:,}", "equal_steps": f"as many steps: {steps}"}
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    for axes, (pairs, (title, count)) in zip(figure.subplots(1, 2, sharey=True), _PANELS.items(), strict=True):
        before = report["before"][pairs]["mean"]
        axes.axhline(before, color=BEFORE, linestyle=DASHES, linewidth=1.5)
        axes.text(64, before + 0.2, f"before: {before:.2f}", color=BEFORE, fontsize=9.5)
        for shift, (line, name) in zip((0.985, 1.015), names.items(), strict=True):
            sizes = list(report[line])
            found = [report[line][size][pairs] for size in sizes]
            axes.errorbar(
                [size * shift for size in sizes],  # bars beside each other
                [one["mean"] for one in found],
                [[abs(one["mean"] - _mean_end(one, end)) for one in found] for end in (0, 1)],
                color=_COLOURS[line], label=name, marker="o", markersize=5, linewidth=1.8, elinewidth=1,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sizes))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("global batch size, images", color=INK)
        tidy(axes, title=title, subtitle=f"mean cross-resolution accuracy, %; {count}")
    figure.axes[0].legend(frameon=False, loc="center left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _mean_end(scored: dict[str, Any], end: int) -> float:
    ends = [interval[end] for interval in scored["interval"].values()]
    return float(sum(ends) / len(ends))
