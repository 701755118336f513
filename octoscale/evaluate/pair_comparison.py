"""Lists of pairs of several runs side by side: the paper's tables 1, 2 and 3."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from octoscale.errors import OctoscaleError
from octoscale.evaluate.comparable import check_comparable, lacking_resolutions
from octoscale.evaluate.compared_table import ComparedTable, before_and_after, table_of
from octoscale.evaluate.config import Mode
from octoscale.evaluate.evaluation import Evaluation

_LFW = "lfw"
_TITLES: dict[Mode, str] = {"cross": "Cross-resolution", "same": "Same resolution"}

# By data set and step; and those that are shown of each run, by step and data set.
PairScores = Mapping[str, Mapping[int, Evaluation]]
_Moments = Mapping[str, Mapping[int, Mapping[str, Evaluation]]]
# What one column shows of the evaluations of one network: accuracies of (data set, mode, resolution), averaged.
_Cells = Sequence[tuple[str, Mode, int]]


def pair_tables(runs: Mapping[str, PairScores], common: Sequence[str]) -> tuple[list[ComparedTable], list[str]]:
    """Table 1, cross-resolution: LFW as it is, each resolution and their mean, averaged over the sets but XQLFW; XQLFW
    as it is. Table 2: the same at the same resolution. Table 3: LFW alone, cross-resolution.

    Sets that were evaluated at other resolutions than the first have tables of their own.

    Args:
        runs: evaluations by the run's name.
        common: the data sets that all runs have.

    Returns:
        The tables, and what is in none of them, with the reason.

    Raises:
        OctoscaleError: a run's sets have no step in common, or what is one set by its name is not the same.
    """
    moments = {run: _moments(run, {name: scores[name] for name in common}) for run, scores in runs.items()}
    for name in common:
        check_comparable(
            name, {run: {step: sets[name] for step, sets in steps.items()} for run, steps in moments.items()}
        )
    apart = [name for name in common if any(each.varies_in_resolution for _, each in _of(moments, [name]))]
    groups = _groups(moments, [name for name in common if name not in apart]) or [[]]
    tables: list[ComparedTable] = []
    left_out: list[str] = []
    for number, names in enumerate(groups):
        found, reasons = _tables_of_group(moments, names, apart if number == 0 else [])
        tables += found
        left_out += reasons
    return tables, left_out


def _groups(moments: _Moments, names: Sequence[str]) -> list[list[str]]:
    """The sets that were evaluated at the same resolutions together, in the order given."""
    groups: dict[frozenset[int], list[str]] = {}
    for name in names:
        resolutions = frozenset(size for _, each in _of(moments, [name]) for size in each.resolutions)
        groups.setdefault(resolutions, []).append(name)
    return list(groups.values())


def _tables_of_group(
    moments: _Moments, names: Sequence[str], apart: Sequence[str]
) -> tuple[list[ComparedTable], list[str]]:
    """Tables 1, 2 and 3 of the sets `names`; those of `apart` have a column each, at their highest resolution."""
    resolutions, left_out = _common_resolutions(moments, names)
    highest: dict[str, int] = {}
    for name in apart:
        own, reasons = _common_resolutions(moments, [name])
        if own:
            highest[name] = own[-1]
        left_out += reasons
    tables: list[ComparedTable] = []
    for mode, title in _TITLES.items():
        shown = [*(names if resolutions else ()), *(highest if mode == "cross" else ())]
        lacking = [where for where, each in _of(moments, shown) if mode not in each.modes]
        if not shown or lacking:
            if any(mode in each.modes for _, each in _of(moments, shown)):
                left_out.append(f"{title.lower()} of {', '.join(shown)}: {lacking[0]} was not evaluated in this mode")
            continue
        averaged = [name for name in shown if name not in apart]
        columns: dict[str, _Cells] = {}
        if averaged:
            columns |= _columns(mode, averaged, resolutions)
        for name, resolution in highest.items() if mode == "cross" else ():
            columns["XQLFW" if len(highest) == 1 else name] = [(name, mode, resolution)]
        over = f"mean of {', '.join(averaged)}" if len(averaged) > 1 else ", ".join(averaged or shown)
        tables.append(_table(f"{title} accuracy, % ({over})", columns, moments))
        if mode == "cross" and _LFW in averaged and len(averaged) > 1:
            own, _ = _common_resolutions(moments, [_LFW])
            tables.append(_table("Cross-resolution accuracy on LFW, %", _columns(mode, [_LFW], own), moments))
    return tables, left_out


def _moments(run: str, scores: PairScores) -> dict[int, dict[str, Evaluation]]:
    """A run's evaluations at its start, if there are any, and at its newest step; by data set."""
    steps = set.intersection(*(set(by_step) for by_step in scores.values()))
    if not steps:
        have = "; ".join(f"{name} at {', '.join(map(str, sorted(by_step)))}" for name, by_step in scores.items())
        raise OctoscaleError(f"{run} was evaluated at different steps ({have}); evaluate its benchmarks at one of them")
    return {step: {name: by_step[step] for name, by_step in scores.items()} for step in before_and_after(steps)}


def _of(moments: _Moments, names: Iterable[str]) -> list[tuple[str, Evaluation]]:
    """The evaluations of these sets, each with what it is of."""
    return [
        (f"{name} of {run} (step {step})", sets[name])
        for name in names
        for run, steps in moments.items()
        for step, sets in steps.items()
    ]


def _common_resolutions(moments: _Moments, names: Sequence[str]) -> tuple[list[int], list[str]]:
    """The resolutions at which all evaluations of these sets were made, and which are left out."""
    lacking = lacking_resolutions(_of(moments, names))
    every = sorted(size for size in lacking if size is not None)
    common = [size for size in every if not lacking[size]]
    if every and not common:
        return [], [f"{', '.join(names)}: the evaluations have no resolution in common"]
    absent = [f"{size} px of {', '.join(names)}: {lacking[size][0]} lacks it" for size in every if lacking[size]]
    return common, absent


def _columns(mode: Mode, sets: Sequence[str], resolutions: Sequence[int]) -> dict[str, _Cells]:
    columns: dict[str, _Cells] = {}
    if mode == "cross" and _LFW in sets and len(sets) > 1:
        columns["LFW"] = [(_LFW, mode, resolutions[-1])]
    for resolution in resolutions:
        columns[f"{resolution} px"] = [(name, mode, resolution) for name in sets]
    columns["mean"] = [(name, mode, resolution) for resolution in resolutions for name in sets]
    return columns


def _table(title: str, columns: Mapping[str, _Cells], moments: _Moments) -> ComparedTable:
    accuracies = {
        run: {
            step: tuple(
                float(np.mean([sets[name].scores[mode, resolution].accuracy for name, mode, resolution in cells]))
                for cells in columns.values()
            )
            for step, sets in steps.items()
        }
        for run, steps in moments.items()
    }
    return table_of(title, tuple(columns), accuracies)
