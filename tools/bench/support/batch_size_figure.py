"""The picture of `tools/bench/batch_size.py`: accuracy against the global batch size."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from octoscale.evaluate.style import BEFORE, DASHES, INK, tidy

_COLOURS = ("#0072b2", "#c75200", "#b4418e", "#007a5e")
_PANELS = {"held_out": ("Identities held out", "1,800 pairs"), "shared": ("Published pairs", "600 pairs")}


def draw(report: dict[str, Any], path: Path, *, images: int) -> None:
    """One panel per set of pairs, a line for as many images seen and one for each number of steps, as a PNG.

    Bars are the mean of the resolutions' 95 % intervals, which is at least as wide as the interval of the mean.
    """
    lines = {f"{images:,} images": report["equal_images"]}
    lines |= {f"{steps} steps": line for steps, line in report["equal_steps"].items()}
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    for axes, (pairs, (title, count)) in zip(figure.subplots(1, 2, sharey=True), _PANELS.items(), strict=True):
        before = report["before"][pairs]["mean"]
        axes.axhline(before, color=BEFORE, linestyle=DASHES, linewidth=1.5, label=f"before: {before:.2f}")
        for number, ((name, line), color) in enumerate(zip(lines.items(), _COLOURS, strict=False)):
            found = [one[pairs] for one in line.values()]
            axes.errorbar(
                [size * (0.985 + 0.015 * number) for size in line],  # bars beside each other
                [one["mean"] for one in found],
                [[abs(one["mean"] - _mean_end(one, end)) for one in found] for end in (0, 1)],
                color=color, label=name, marker="o", markersize=5, linewidth=1.8, elinewidth=1,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(list(report["equal_images"])))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("global batch size, images", color=INK)
        axes.legend(frameon=False, loc="upper right")
        tidy(axes, title=title, subtitle=f"mean cross-resolution accuracy, %; {count}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _mean_end(scored: dict[str, Any], end: int) -> float:
    ends = [interval[end] for interval in scored["interval"].values()]
    return float(sum(ends) / len(ends))
