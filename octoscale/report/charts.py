"""The kinds of charts, each drawn from the numbers that its table shows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from octoscale.evaluate.compared_table import signed_points
from octoscale.report.items import Key, Table, number, percentage
from octoscale.report.palette import GRID, INK, SOFT, Color

_DASHES = (0, (4, 2))
_WIDTH = 4.5
Scale = Literal["linear", "log"]


@dataclass(frozen=True)
class Series:
    """One line. `low` and `high`: an interval around each y, or empty."""

    name: str
    color: Color
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Lines:
    """Values over something that goes on. `ticks`: where x is marked, each at its own value."""

    kind: ClassVar[str] = "chart"
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    note: str = ""
    percent: bool = False
    x_scale: Scale = "linear"
    ticks: tuple[float, ...] = ()
    steps: bool = False
    diagonal: str = ""  # names the line y = 1 − x, if any

    def draw(self) -> Figure:
        figure, axes = _figure(2.9)
        xs = self._xs()
        for position, line in enumerate(self.series):
            style = {"color": line.color.light, "linestyle": _DASHES if line.dashed else "solid",
                     "linewidth": 1.3 if line.dashed else 1.8}  # fmt: skip
            if line.low:
                below_above = [[y - low for y, low in zip(line.y, line.low, strict=True)],
                               [high - y for y, high in zip(line.y, line.high, strict=True)]]  # fmt: skip
                # Side by side, so that intervals do not hide each other.
                shift = 1 + 0.025 * (position - (len(self.series) - 1) / 2)
                axes.errorbar([x * shift for x in line.x], line.y, below_above, marker="o", markersize=4, capsize=2.5,
                              elinewidth=1, **style)  # fmt: skip
            elif self.steps:
                axes.step(line.x, line.y, where="post", **style)
            else:
                axes.plot(line.x, line.y, marker="o" if len(line.x) < 8 else None, markersize=3.5, **style)
        if self.diagonal:
            axes.plot(xs, [1 - x for x in xs], color=SOFT.light, linestyle="dotted", linewidth=1.2)
        axes.set_xscale(self.x_scale)
        axes.set_xlabel(self.x_label, color=INK.light)
        axes.set_ylabel(self.y_label, color=INK.light)
        if self.ticks:
            axes.set_xticks(self.ticks, [number(tick) for tick in self.ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        elif self.x_scale == "log":
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if self.percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, -0.02), min(high, 1.02))
        if len(xs) == 1 and self.x_scale == "linear":
            axes.set_xlim(xs[0] - 1, xs[0] + 1)
        return figure

    def table(self) -> Table:
        cells = [self._cells(line) for line in self.series]
        unit = f"; {self.y_label} in %" if self.percent else ""
        return Table(
            (f"{self.x_label}{unit}", *(line.name for line in self.series)),
            tuple((number(x), *(column.get(x, "") for column in cells)) for x in self._xs()),
        )

    def _xs(self) -> list[float]:
        return sorted({x for line in self.series for x in line.x})

    def _cells(self, line: Series) -> dict[float, str]:
        show = self._show()
        if not line.low:
            return {x: show(y) for x, y in zip(line.x, line.y, strict=True)}
        rows = zip(line.x, line.y, line.low, line.high, strict=True)
        return {x: f"{show(y)} ({show(low)}–{show(high)})" for x, y, low, high in rows}

    def legend(self) -> tuple[Key, ...]:
        keys = tuple(Key(line.name, line.color, line.dashed) for line in self.series)
        return (*keys, Key(self.diagonal, SOFT, dashed=True)) if self.diagonal else keys

    def alt(self) -> str:
        show, unit = self._show(), " %" if self.percent else ""
        ends = [f"{line.name} from {show(line.y[0])} to {show(line.y[-1])}{unit}" for line in self.series]
        return f"Line chart of {self.y_label} over {self.x_label}: {'; '.join(ends)}."

    def _show(self) -> Callable[[float], str]:
        return percentage if self.percent else number


@dataclass(frozen=True)
class Stack:
    """Bars of parts, one bar per row. `parts`: of each part its name, colour and value in every row."""

    kind: ClassVar[str] = "chart"
    title: str
    unit: str
    rows: tuple[str, ...]
    parts: tuple[tuple[str, Color, tuple[float, ...]], ...]
    note: str = ""

    def draw(self) -> Figure:
        figure, axes = _figure(0.75 + 0.42 * len(self.rows))
        ends = [0.0] * len(self.rows)
        for _, color, values in self.parts:
            axes.barh(range(len(self.rows)), values, left=ends, color=color.light, height=0.62)
            ends = [end + value for end, value in zip(ends, values, strict=True)]
        axes.set_yticks(range(len(self.rows)), [shortened(row) for row in self.rows])
        axes.set_ylim(len(self.rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(self.unit, color=INK.light)
        return figure

    def table(self) -> Table:
        totals = self._totals()
        rows = [
            (name, *(f"{number(value)} ({_share(value, total)})" for value, total in zip(values, totals, strict=True)))
            for name, _, values in self.parts
        ]
        return Table(("", *(f"{row}, {self.unit}" for row in self.rows)), (*rows, ("total", *map(number, totals))))

    def legend(self) -> tuple[Key, ...]:
        return tuple(Key(name, color) for name, color, _ in self.parts)

    def alt(self) -> str:
        totals = self._totals()
        bars = []
        for row, name in enumerate(self.rows):
            parts = (f"{part} {_share(values[row], totals[row])}" for part, _, values in self.parts)
            bars.append(f"{name}: {', '.join(parts)}")
        return f"Bars of {self.unit}. {'. '.join(bars)}."

    def _totals(self) -> list[float]:
        return [math.fsum(values[row] for *_, values in self.parts) for row in range(len(self.rows))]


@dataclass(frozen=True)
class Change:
    """One bar of a `Changes`: a fraction before and after."""

    group: str
    name: str
    color: Color
    before: float
    after: float


@dataclass(frozen=True)
class Changes:
    """Fractions in groups: pale up to what was there, full where they rose, crossed where they fell."""

    kind: ClassVar[str] = "chart"
    title: str
    y_label: str
    bars: tuple[Change, ...]
    note: str = ""

    def draw(self) -> Figure:
        groups = list(dict.fromkeys(bar.group for bar in self.bars))
        figure, axes = _figure(0.7 + 0.2 * len(self.bars) + 0.32 * len(groups))
        floor = min(0.5, *(min(bar.before, bar.after) for bar in self.bars))
        y, ticks = 0.0, []
        for group in groups:
            axes.text(floor, y, shortened(group, 48), fontweight="bold", color=INK.light, va="center")
            y += 1.0
            for bar in (bar for bar in self.bars if bar.group == group):
                lower, upper = sorted((bar.before, bar.after))
                axes.barh(y, lower - floor, left=floor, height=0.8, color=bar.color.light, alpha=0.35)
                risen = bar.after >= bar.before
                axes.barh(
                    y, upper - lower, left=lower, height=0.8, edgecolor=bar.color.light, linewidth=0,
                    facecolor=bar.color.light if risen else "none", hatch=None if risen else "xxxx",
                )  # fmt: skip
                ticks.append((y, bar.name))
                y += 1.0
            y += 0.6
        axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
        axes.set_ylim(y - 0.6, -0.7)
        axes.set_xlim(floor, 1.0)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel(self.y_label, color=INK.light)
        return figure

    def table(self) -> Table:
        return Table(
            ("", "", "before, %", "after, %", "change, points"),
            tuple(
                (bar.group, bar.name, percentage(bar.before), percentage(bar.after),
                 signed_points(100 * (bar.after - bar.before)))
                for bar in self.bars
            ),
        )  # fmt: skip

    def legend(self) -> tuple[Key, ...]:
        return tuple(dict.fromkeys(Key(bar.name, bar.color) for bar in self.bars))

    def alt(self) -> str:
        bars = (f"{b.group}, {b.name}: {percentage(b.before)} to {percentage(b.after)} %" for b in self.bars)
        return f"Bars of {self.y_label}, before and after: {'; '.join(bars)}."


def windows(count: int, most: int) -> int:
    """How many steps each point stands for, so that `count` steps give at most `most` points."""
    return max(1, -(-count // most))


def windowed(
    steps: Sequence[int], values: Sequence[float | None], width: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The last step and the mean value of each `width` steps; what is no number is left out."""
    found: dict[int, list[tuple[int, float]]] = {}
    for step, value in zip(steps, values, strict=True):
        if value is not None and math.isfinite(value):
            found.setdefault((step - 1) // width, []).append((step, value))
    points = [(window[-1][0], math.fsum(value for _, value in window) / len(window)) for window in found.values()]
    return tuple(float(step) for step, _ in points), tuple(value for _, value in points)


def shortened(text: str, most: int = 24) -> str:
    """The end tells the names of runs apart."""
    return text if len(text) <= most else f"…{text[-most + 1 :]}"


def _share(value: float, total: float) -> str:
    return f"{100 * value / total:.1f} %" if total else "–"


def _figure(height: float) -> tuple[Figure, Any]:
    """A figure of the page's width, and its axes."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(color=GRID.light, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK.light, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure, axes
