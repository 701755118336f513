"""Where the time went: within a step, and over the run."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from octoscale.report.charts import Stack
from octoscale.report.items import Item, Missing, Section, duration
from octoscale.report.palette import SOFT, Color, series_color
from octoscale.report.runs import Run

_PHASES = ("data_wait", "degrade", "embed", "exchange", "mine", "loss", "second_pass", "optimizer")
# In the order of the bar; a state that is not among them comes last.
_STATES = ("productive", "startup", "data_wait", "checkpoint", "evaluate", "rework", "idle")


def timing_section(runs: Sequence[Run]) -> Section:
    """The phases of a step, and the wall time by state."""
    items: list[Item] = []
    with_lines = [run for run in runs if run.lines]
    if with_lines:
        note = "Mean over the steps, of rank 0, the wait for the batch with it. What no phase accounts for is other."
        items.append(_stack("A step by phase", "s per step", with_lines, [_step_seconds(r) for r in with_lines], note))
    items += [chart for run in runs for chart in _over_ranks(run, several=len(runs) > 1)]
    with_ledger = [run for run in runs if run.wall_seconds]
    if with_ledger:
        walls = [_in_order(run.wall_seconds, _STATES) for run in with_ledger]
        totals = ", ".join(duration(sum(wall.values())) for wall in walls)
        note = f"Over all attempts, up to the newest commit: {totals}."
        items.append(_stack("Wall time by state", "s", with_ledger, walls, note))
    items += [
        Missing(f"{run.name}: the phases of a step", "the run has no journal yet; it is written with each commit")
        for run in runs
        if not run.lines
    ]
    items += [
        Missing(f"{run.name}: wall time by state", "it travels with the commits, and none can be read")
        for run in runs
        if not run.wall_seconds
    ]
    intro = "Productive is what advanced the training; its share of the wall time is the goodput."
    return Section("time", "Where the time went", intro, tuple(items))


def _step_seconds(run: Run) -> dict[str, float]:
    """Mean seconds of each phase, those that took time."""
    names = dict.fromkeys(name for line in run.lines for name in line.result.phase_seconds)
    means = {name: fmean(line.result.phase_seconds.get(name, 0.0) for line in run.lines) for name in names}
    inside = sum(means.values())
    means["data_wait"] = fmean(line.data_wait_seconds for line in run.lines)
    means["other"] = max(0.0, fmean(line.step_seconds for line in run.lines) - inside)
    return _in_order({name: seconds for name, seconds in means.items() if seconds > 0}, _PHASES)


def _over_ranks(run: Run, *, several: bool) -> Iterator[Stack]:
    """What the recorder has of all ranks; nothing for one rank."""
    phases = {phase: seconds for phase, seconds in run.rank_phases.items() if seconds[1] > 0}
    if any(mean < most for mean, most in phases.values()):
        names = _in_order(dict.fromkeys(phases, 0.0), _PHASES)
        parts = tuple((name, series_color(number), phases[name]) for number, name in enumerate(names))
        note = "Mean over the last recorded steps. The slowest rank may be another one in each phase."
        title = f"{run.name}: phases of all ranks" if several else "Phases of all ranks"
        yield Stack(title, "s per step", ("mean of ranks", "slowest rank"), parts, note)


def _in_order(seconds: dict[str, float], order: Sequence[str]) -> dict[str, float]:
    names = sorted(seconds, key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: seconds[name] for name in names}


def _stack(title: str, unit: str, runs: Sequence[Run], values: Sequence[dict[str, float]], note: str) -> Stack:
    names = dict.fromkeys(name for seconds in values for name, spent in seconds.items() if spent > 0)
    colors = dict(zip(names, map(series_color, range(len(names))), strict=True))
    return Stack(
        title,
        unit,
        tuple(run.name for run in runs),
        tuple(
            (name, _color(name, colors[name]), tuple(seconds.get(name, 0.0) for seconds in values)) for name in names
        ),
        note,
    )


def _color(name: str, color: Color) -> Color:
    return SOFT if name == "other" else color
