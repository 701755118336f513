"""The picture of `tools/bench/scaling_model.py`: a step on 8, 64 and 512 GPUs, as the model has it."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

_INK, _SOFT, _GRID = "#22262b", "#6b7280", "#e3e6ea"
_PARTS = {
    "network": ("network", "#0072b2"),
    "mining": ("mining", "#e69f00"),
    "exchange": ("exchange", "#b4418e"),
    "all_reduce": ("all-reduce", "#7a8794"),
}
_LINES = {"mobilefacenet": ("#c75200", "o"), "iresnet50": ("#0072b2", "s"), "iresnet100": ("#008061", "^")}
_NAMES = {"mobilefacenet": "MobileFaceNet", "iresnet50": "iResNet50", "iresnet100": "iResNet100"}
_DRAWN_RANKS = (8, 64, 512)


def draw(costs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw the model's points, by network, as a PNG.

    Above, how a step of each network splits; below efficiency, exchange share and memory.
    """
    figure = Figure(figsize=(14, 9.6), layout="constrained")
    axes = figure.subplots(2, 3)
    for place, name in enumerate(costs):
        _split(axes[0, place], costs[name], _NAMES[name])
    axes[0, 0].set_ylabel("share of the step, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=11)
    largest = max(point["batch"] for point in costs["mobilefacenet"])
    _lines(axes[1, 0], costs, largest, "efficiency", 1.0, f"Efficiency against one GPU, B = {largest:,}")
    _lines(axes[1, 1], costs, largest, "exchange_share", 100.0, f"Waiting for messages, %, B = {largest:,}")
    _lines(axes[1, 2], costs, largest, "device_bytes", 2.0**-30, f"Memory per GPU, GiB, B = {largest:,}")
    axes[1, 0].set_ylim(0, 1.05)
    axes[1, 1].set_ylim(0)
    axes[1, 2].set_ylim(0)
    axes[1, 0].legend(frameon=False, fontsize=10, loc="lower left")
    figure.suptitle("One step on H100 nodes: a model, not a measurement", fontsize=15, color=_INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=105)


def _split(axes: Any, points: list[dict[str, Any]], name: str) -> None:
    """One bar per batch and number of GPUs, in groups of equal batch; its time above it."""
    place = 0.0
    ticks: list[tuple[float, str]] = []
    batches: list[tuple[float, str]] = []
    for batch in sorted({point["batch"] for point in points}):
        first = place
        for ranks in _DRAWN_RANKS:
            for point in points:
                if (point["batch"], point["ranks"]) == (batch, ranks):
                    bottom = 0.0
                    for part, (label, color) in _PARTS.items():
                        share = 100 * point[part] / point["seconds"]
                        axes.bar(place, share, 0.86, bottom, color=color, label=label if not ticks else None)
                        bottom += share
                    axes.text(
                        place, 102, _seconds(point["seconds"]), rotation=90, ha="center", va="bottom", fontsize=9,
                        color=_INK,
                    )  # fmt: skip
                    ticks.append((place, str(ranks)))
                    place += 1
        batches.append(((first + place - 1) / 2, f"{batch:,}"))
        place += 0.8
    axes.set_xticks([x for x, _ in ticks], [label for _, label in ticks], fontsize=8, rotation=90)
    for middle, label in batches:
        axes.text(
            middle, -0.11, label, transform=axes.get_xaxis_transform(), ha="center", va="top", fontsize=9, color=_INK
        )
    axes.set_xlabel("GPUs, and below them the global batch B", labelpad=36, fontsize=10)
    axes.set_ylim(0, 130)
    axes.set_yticks(range(0, 101, 20))
    axes.set_title(f"{name}: time of a step and its parts", fontsize=12, color=_INK, loc="left")
    axes.tick_params(colors=_SOFT, length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _lines(axes: Any, costs: dict[str, list[dict[str, Any]]], batch: int, key: str, unit: float, title: str) -> None:
    for name, points in costs.items():
        color, marker = _LINES[name]
        chosen = [point for point in points if point["batch"] == batch]
        axes.plot(
            [point["ranks"] for point in chosen], [unit * point[key] for point in chosen],
            color=color, marker=marker, markersize=5, label=_NAMES[name],
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("GPUs")
    axes.set_title(title, fontsize=12, color=_INK, loc="left")
    axes.grid(color=_GRID, linewidth=0.7)
    axes.tick_params(colors=_SOFT)
    axes.spines[["top", "right"]].set_visible(False)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
