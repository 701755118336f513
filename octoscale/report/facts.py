"""The run in numbers and words: summary, comparison, configuration, versions, commits, attempts."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from octoscale.report.accuracy import evaluated
from octoscale.report.items import Item, Missing, Section, Table, Text, Tile, duration, number, percentage
from octoscale.report.runs import Run


def tiles(run: Run) -> tuple[Tile, ...]:
    """The summary of one run."""
    found = [*_accuracy_tiles(run)]
    length = run.values.get("steps")
    found.append(Tile("steps", f"{run.steps:,}", f"of {length:,}" if length else f"{run.values.get('epochs')} epochs"))
    found.append(Tile("images", f"{run.images:,}", f"{run.values['global_batch_size']:,} a step, each high and low"))
    if run.goodput is not None:
        wall = duration(sum(run.wall_seconds.values()))
        found.append(Tile("goodput", f"{100 * run.goodput:.1f} %", f"of {wall} advanced the training"))
    if run.restarts is not None:
        failures = run.attempts[-1].failures
        found.append(Tile("restarts", str(run.restarts), f"{failures} after a failure"))
    return tuple(found)


def _accuracy_tiles(run: Run) -> Iterator[Tile]:
    for one in evaluated([run]):
        mode = one.after.modes[0]
        after = percentage(one.after.mean_accuracy(mode))
        value = f"{after} %" if one.before is None else f"{percentage(one.before.mean_accuracy(mode))} → {after} %"
        name = "" if len(run.evaluations) == 1 else f", {one.data_set}"
        yield Tile(f"accuracy{name}", value, f"mean of {len(one.after.resolutions)} resolutions, {mode}-resolution")


def comparison(runs: Sequence[Run]) -> Section:
    """Several runs in one table, and where their configurations differ."""
    modes = dict.fromkeys((one.data_set, mode) for one in evaluated(runs) for mode in one.after.modes)
    columns = ("", *(run.name for run in runs))
    rows = []
    for data_set, mode in modes:
        cells = [_mean_accuracy(run, data_set, mode) for run in runs]
        rows.append((f"accuracy, {data_set}, {mode}, %", *cells))
    rows += [
        ("steps", *(f"{run.steps:,}" for run in runs)),
        ("images", *(f"{run.images:,}" for run in runs)),
        ("last loss", *(number(run.lines[-1].result.loss) if run.lines else "–" for run in runs)),
        ("wall time", *(duration(sum(run.wall_seconds.values())) if run.wall_seconds else "–" for run in runs)),
        ("goodput, %", *(percentage(run.goodput) for run in runs)),
        ("restarts", *("–" if run.restarts is None else str(run.restarts) for run in runs)),
    ]
    items = (
        Table(columns, tuple(rows), "Results, before → after"),
        Table(columns, tuple(_differences(runs)), "Settings that differ"),
    )
    return Section("comparison", "Comparison", "", items)


def _mean_accuracy(run: Run, data_set: str, mode: str) -> str:
    for one in evaluated([run]):
        if one.data_set == data_set and mode in one.after.modes:
            shown = [one.after] if one.before is None else [one.before, one.after]
            return " → ".join(percentage(each.mean_accuracy(mode)) for each in shown)
    return "–"


def _differences(runs: Sequence[Run]) -> Iterator[tuple[str, ...]]:
    flat = [dict(_flat(run.values)) for run in runs]
    for key in dict.fromkeys(key for values in flat for key in values):
        cells = [values.get(key, "–") for values in flat]
        if key != "directory" and len(set(cells)) > 1:
            yield (key, *cells)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)


def facts_section(run: Run, runs: Sequence[Run]) -> Section:
    """Configuration, versions, commits and attempts of one run."""
    several = len(runs) > 1
    items: list[Item] = []
    versions = run.record.get("versions")
    if versions:
        items.append(Table(("", "version"), tuple((name, str(value)) for name, value in versions.items()), "Versions"))
    else:
        items.append(Missing("Versions", "they are written with each commit, and none can be read"))
    if run.attempts:
        rows = tuple(
            (str(claim.number), _moment(claim.unix_time), claim.version, claim.host, str(claim.failures))
            for claim in run.attempts
        )
        items.append(Table(("attempt", "started", "octoscale", "host", "failures before"), rows, "Starts of the run"))
    if run.commits:
        commits = tuple(
            (f"{commit.step:,}", str(commit.attempt), _moment(commit.unix_time), percentage(commit.score))
            for commit in run.commits
        )
        items.append(Table(("step", "attempt", "committed", "score, %"), commits, "Commits that are kept"))
    else:
        items.append(
            Missing("Commits", "the run has none yet; checkpoint.every_steps and every_seconds say when it does")
        )
    items += [Missing("Something", problem) for problem in run.problems]
    items.append(Text("Configuration", yaml.safe_dump(run.values, sort_keys=False, allow_unicode=True)))
    place = runs.index(run) + 1
    title = f"The run {run.name}" if several else "The run"
    return Section(f"run-{place}", title, "", tuple(items))


def _moment(unix_time: float) -> str:
    return f"{datetime.fromtimestamp(unix_time, UTC):%Y-%m-%d %H:%M:%S} UTC"
