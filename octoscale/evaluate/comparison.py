"""Runs side by side: the paper's tables 1, 2 and 3, and tables of templates and galleries."""

from collections.abc import Mapping, Sequence

import numpy as np

from octoscale.data.importers.paths import store_and_name
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.comparable import check_comparable, is_alike
from octoscale.evaluate.compared_table import ComparedTable, before_and_after, table_of
from octoscale.evaluate.config import Mode
from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.identification import IdentificationEvaluation
from octoscale.evaluate.kept import kept_files, own_files, read_evaluations, read_scores
from octoscale.evaluate.kinds import AnyEvaluation
from octoscale.evaluate.set_comparison import common_sets, of_kind, set_tables
from octoscale.evaluate.templates import TemplateEvaluation

# A data set that is shown in a column of its own and never averaged: its pairs differ in resolution as they are.
CROSS_QUALITY = "xqlfw"
_LFW = "lfw"

# By data set and step.
Scores = Mapping[str, Mapping[int, AnyEvaluation]]
_PairScores = Mapping[str, Mapping[int, Evaluation]]


def scores_of(target: str, storage: StorageConfig | None = None) -> Scores:
    """The evaluations of a run, or in a file of `octoscale evaluate --scores`.

    Of a run: those that its training made, of `evaluate.pairs`, and those that were kept. Kept ones of the same name
    stand alone, unless they are of the same and at the same resolutions: a change is never one of the data set.

    Args:
        target: a run's directory or the file, a path or URL.
        storage: how it is reached; None: by the defaults.

    Raises:
        OctoscaleError: there are none, or one cannot be read.
    """
    storage = storage or StorageConfig()
    if target.endswith(".json"):
        store, name = store_and_name(target, storage)
        by_set = _by_set(read_scores(store.read(name).decode(errors="replace"), target))
    else:
        store = Store(target, storage)
        by_set = _by_set(read_evaluations(store, list(own_files(store).values())))
        for name, kept in _by_set(read_evaluations(store, list(kept_files(store).values()))).items():
            own, first = by_set.get(name, {}), next(iter(kept.values()))
            alike = all(is_alike(first, evaluation) for evaluation in (*own.values(), *kept.values()))
            by_set[name] = {**own, **kept} if alike else kept
    if not by_set:
        raise OctoscaleError(f"{target} has no evaluations; run octoscale evaluate {target} --benchmark all --keep")
    return by_set


def _by_set(evaluations: Sequence[AnyEvaluation]) -> dict[str, dict[int, AnyEvaluation]]:
    by_set: dict[str, dict[int, AnyEvaluation]] = {}
    for evaluation in evaluations:
        by_set.setdefault(evaluation.name or evaluation.protocol, {})[evaluation.step] = evaluation
    return by_set


def compare(runs: Mapping[str, Scores]) -> list[ComparedTable]:
    """Before and after, on the data sets and at the resolutions that all runs have in common.

    Accuracy of pairs: table 1, cross-resolution: LFW as it is, each resolution and their mean, averaged over the sets
    but XQLFW; XQLFW as it is. Table 2: the same at the same resolution. Table 3: LFW alone, cross-resolution. Then a
    table for each set of templates and each gallery, and each of its resolutions.

    Args:
        runs: evaluations by the run's name; see `scores_of`.

    Raises:
        OctoscaleError: the runs have no data set, or a run's sets of pairs no step, in common; or what is one set by
            its name is not the same, in two runs or before and after.
    """
    pairs = {run: of_kind(scores, Evaluation) for run, scores in runs.items()}
    templates = {run: of_kind(scores, TemplateEvaluation) for run, scores in runs.items()}
    galleries = {run: of_kind(scores, IdentificationEvaluation) for run, scores in runs.items()}
    common = common_sets(pairs)
    tables = _tables_of_pairs(pairs, common) if common else []
    tables += set_tables(templates, "Templates")
    tables += set_tables(galleries, "Identification")
    if tables:
        return tables
    if common:
        raise OctoscaleError(f"nothing to average: only {', '.join(common)} in modes that all evaluations have")
    if common_sets(templates) or common_sets(galleries):
        raise OctoscaleError("the evaluations have no resolution in common; evaluate them at the same resolutions")
    sets = "; ".join(f"{run} has {', '.join(scores)}" for run, scores in runs.items())
    raise OctoscaleError(f"the runs were evaluated on different data sets: {sets}; evaluate them on the same")


def _tables_of_pairs(runs: Mapping[str, _PairScores], common: Sequence[str]) -> list[ComparedTable]:
    """The paper's tables, as far as there is something to average."""
    moments = {run: _moments(run, {name: scores[name] for name in common}) for run, scores in runs.items()}
    for name in common:
        check_comparable(
            name, {run: {step: sets[name] for step, sets in steps.items()} for run, steps in moments.items()}
        )
    every = [found for steps in moments.values() for sets in steps.values() for found in sets.values()]
    averaged = [name for name in common if name != CROSS_QUALITY]
    tables = []
    titles: dict[Mode, str] = {"cross": "Cross-resolution", "same": "Same resolution"}
    for mode, title in titles.items():
        shared = [found for found in every if mode in found.modes]
        if len(shared) < len(every) or not averaged:
            continue
        resolutions = _common_resolutions(every)
        columns = _columns(mode, averaged, resolutions, common)
        over = f"mean of {', '.join(averaged)}" if len(averaged) > 1 else averaged[0]
        tables.append(_table(f"{title} accuracy, % ({over})", columns, moments))
        if mode == "cross" and _LFW in averaged and len(averaged) > 1:
            own = _common_resolutions([sets[_LFW] for steps in moments.values() for sets in steps.values()])
            lfw = _columns(mode, [_LFW], own, [])
            tables.append(_table("Cross-resolution accuracy on LFW, %", lfw, moments))
    return tables


# What one column shows of the evaluations of one network: accuracies of (data set, mode, resolution), averaged.
_Cells = Sequence[tuple[str, Mode, int]]


def _moments(run: str, scores: _PairScores) -> dict[int, dict[str, Evaluation]]:
    """A run's evaluations at its start, if there are any, and at its newest step; by data set."""
    steps = set.intersection(*(set(by_step) for by_step in scores.values()))
    if not steps:
        have = "; ".join(f"{name} at {', '.join(map(str, sorted(by_step)))}" for name, by_step in scores.items())
        raise OctoscaleError(f"{run} was evaluated at different steps ({have}); evaluate its benchmarks at one of them")
    return {step: {name: by_step[step] for name, by_step in scores.items()} for step in before_and_after(steps)}


def _common_resolutions(evaluations: Sequence[Evaluation]) -> list[int]:
    resolutions = [
        resolution
        for resolution in evaluations[0].resolutions
        if all(resolution in evaluation.resolutions for evaluation in evaluations)
    ]
    if not resolutions:
        raise OctoscaleError("the evaluations have no resolution in common; evaluate them at the same resolutions")
    return resolutions


def _columns(mode: Mode, sets: Sequence[str], resolutions: Sequence[int], common: Sequence[str]) -> dict[str, _Cells]:
    columns: dict[str, _Cells] = {}
    if mode == "cross" and _LFW in common and len(sets) > 1:
        columns["LFW"] = [(_LFW, mode, resolutions[-1])]
    for resolution in resolutions:
        columns[f"{resolution} px"] = [(name, mode, resolution) for name in sets]
    columns["mean"] = [(name, mode, resolution) for resolution in resolutions for name in sets]
    if mode == "cross" and CROSS_QUALITY in common:
        columns["XQLFW"] = [(CROSS_QUALITY, mode, resolutions[-1])]
    return columns


def _table(
    title: str, columns: Mapping[str, _Cells], moments: Mapping[str, Mapping[int, Mapping[str, Evaluation]]]
) -> ComparedTable:
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
