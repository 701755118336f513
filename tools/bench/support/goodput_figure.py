"""The picture of `tools/bench/goodput.py`: what is wasted, against the interval between commits."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

_INK, _SOFT, _GRID = "#22262b", "#6b7280", "#e3e6ea"
_EXACT, _SIMULATED, _FIRST = "#0072b2", "#c75200", "#b4418e"


def draw(report: dict[str, Any], path: Path) -> None:
    """One panel per scenario, as a PNG."""
    figure = Figure(figsize=(13, 8.6), layout="constrained")
    for axes, scenario in zip(figure.subplots(2, 2).flat, report["scenarios"], strict=True):
        _panel(axes, scenario)
    figure.axes[0].legend(frameon=True, framealpha=1, edgecolor="white", fontsize=10, loc="upper center")
    figure.suptitle("Time lost to commits, replay and recovery: seeded failures and the formulas", fontsize=14)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _panel(axes: Any, scenario: dict[str, Any]) -> None:
    sweep, faults = scenario["sweep"], scenario["faults"]
    intervals = [row["interval"] for row in sweep]
    waste = [100 * (1 - row["simulated"]["goodput"]) for row in sweep]
    errors = [300 * row["simulated"]["standard_error"] for row in sweep]
    axes.plot(intervals, [100 * (1 - row["exact"]) for row in sweep], color=_EXACT, label="exact (renewal process)")
    axes.plot(
        intervals, [100 * (1 - row["first_order"]) for row in sweep],
        color=_FIRST, linestyle=(0, (4, 2)), label="first order: C/T + (T/2 + R)/MTBF",
    )  # fmt: skip
    axes.errorbar(
        intervals,
        waste,
        errors,
        fmt="o",
        markersize=4,
        linewidth=1,
        color=_SIMULATED,
        label="simulated, ± 3 standard errors",
    )
    optimum = scenario["young_daly_interval"]
    least = 100 * (1 - scenario["goodput_best"])
    axes.axvline(optimum, color=_INK, linewidth=1, linestyle=":", label="√(2 · MTBF · C)")
    axes.set(xscale="log", yscale="log", xlabel="seconds of steps between commits, T", ylabel="wall time lost, %")
    # Below and above this, nobody would commit.
    axes.set_ylim(least / 1.7, min(100, least * 12))
    axes.text(
        0.5, 0.04, f"√(2 · MTBF · C) = {optimum:,.0f} s: {100 * scenario['goodput_young_daly']['exact']:.2f} % goodput",
        transform=axes.transAxes, ha="center", color=_INK, fontsize=10, backgroundcolor="white",
    )  # fmt: skip
    mtbf = faults["mtbf"]
    between = f"{mtbf / 3600:.1f} h" if mtbf >= 3600 else f"{mtbf / 60:.0f} min"
    axes.set_title(
        f"{scenario['name']}\nMTBF {between}, recovery {faults['recovery']:g} s, commit {faults['commit']:g} s",
        fontsize=11, color=_INK, loc="left",
    )  # fmt: skip
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(color=_GRID, which="both", linewidth=0.6)
    axes.tick_params(colors=_SOFT, which="both")
    axes.spines[["top", "right"]].set_visible(False)
