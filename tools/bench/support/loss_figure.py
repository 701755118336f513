"""The picture of `tools/bench/loss.py`: time and memory against the global batch."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

_INK, _SOFT, _GRID = "#22262b", "#6b7280", "#e3e6ea"
_DASHES = (0, (4, 2))
# Okabe and Ito's colours, darkened where thin lines on white need it; the lines also differ in their markers.
_STYLES: dict[str, tuple[str, str, str, Any]] = {
    "octoscale": ("octoscale", "#0072b2", "o", "solid"),
    "cdist": ("4 × torch.cdist", "#c75200", "s", "solid"),
    "pytorch_metric_learning": ("pytorch-metric-\nlearning", "#008061", "^", "solid"),
    "one_matrix": ("one 2B × 2B\nmatrix", "#b4418e", "D", "solid"),
    "gemms": ("bare matrix\nproducts", _SOFT, "", _DASHES),
}
# An axis in bytes needs a lowest value; less than this is within the allocator's own grain.
_LEAST_BYTES = 2**20


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the printed result as a PNG: a line per method, ending in a cross where it could go no further."""
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    time, memory = figure.subplots(1, 2)
    _panel(time, result, "seconds_median", "Time, forward + backward", "seconds", _seconds)
    _panel(memory, result, "extra_bytes", "Extra peak memory, without embeddings and gradients", "bytes", _bytes)
    machine = result["machine"]
    where = machine.get("device") or f"{machine['processor']}, {machine['threads']} threads"
    limits = f"× needs more than {result['memory_limit_gib']:g} GiB or {result['time_limit_seconds']:g} s"
    figure.supxlabel(f"d = {result['dim']} · {where} · {limits}", fontsize=9.5, color=_SOFT)
    figure.savefig(path, dpi=150)


def _panel(axes: Any, result: dict[str, Any], field: str, title: str, unit: str, formatter: Any) -> None:
    batches = [row["batch"] for row in result["batches"]]
    ends: list[tuple[float, float, str, str]] = []
    for method, (label, color, marker, dashes) in _STYLES.items():
        if method == "gemms" and unit == "bytes":  # one tile
            continue
        rows = [(row["batch"], row["methods"][method]) for row in result["batches"]]
        points = [(batch, found[field]) for batch, found in rows if field in found]
        if not points:
            continue
        x, y = zip(*points, strict=True)
        y = tuple(max(value, _LEAST_BYTES) for value in y) if unit == "bytes" else y
        width = 2.6 if method == "octoscale" else 1.8
        axes.plot(x, y, color=color, marker=marker, linestyle=dashes, linewidth=width, markersize=6, zorder=3)
        if len(points) < len(batches):
            axes.plot(x[-1], y[-1], color=color, marker="x", markersize=14, markeredgewidth=2.2, zorder=4)
            # Inside the panel, where other lines go on to the right: above the end, to its left.
            axes.annotate(
                label, (x[-1], y[-1]), xytext=(-10, 8), textcoords="offset points", ha="right", va="bottom",
                color=color, fontsize=10, linespacing=1.05, zorder=5,
            )  # fmt: skip
        else:
            ends.append((x[-1], y[-1], label, color))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(batches[0] / 1.25, batches[-1] * 3.2)
    lowest, highest = axes.get_ylim()
    axes.set_ylim(lowest / 1.3, highest * 1.6)
    axes.set_xticks(batches, [f"{batch:,}" for batch in batches])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(formatter))
    axes.set_xlabel("global batch size B", color=_INK)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=_INK)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=_INK, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    _label_ends(axes, ends)


def _label_ends(axes: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Names beside the ends of the lines, moved apart where they would overlap."""
    axes.figure.draw_without_rendering()
    pixels = [axes.transData.transform((x, y)) for x, y, _, _ in ends]
    placed: list[tuple[float, float, float]] = []
    for (x, y), (_, _, label, color) in sorted(zip(pixels, ends, strict=True), key=lambda item: item[0][1]):
        height = 15.0 * (label.count("\n") + 1)
        for other_x, other_y, other_height in placed:
            if abs(x - other_x) < 130:
                y = max(y, other_y + (height + other_height) / 2)
        placed.append((x, y, height))
        at = axes.transData.inverted().transform((x + 12, y))
        axes.text(*at, label, color=color, fontsize=10, va="center", ha="left", linespacing=1.05, zorder=5)


def _seconds(value: float, _: int) -> str:
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def _bytes(value: float, _: int) -> str:
    return f"{value / 1e9:g} GB" if value >= 1e9 else f"{value / 1e6:g} MB"
