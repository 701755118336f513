"""Runs side by side: the paper's tables 1, 2 and 3, and tables of templates and galleries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from octoscale.data.importers.paths import store_and_name
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.comparable import is_alike
from octoscale.evaluate.compared_table import ComparedTable
from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.identification import IdentificationEvaluation
from octoscale.evaluate.kept import kept_files, own_files, read_evaluations, read_scores
from octoscale.evaluate.kinds import AnyEvaluation
from octoscale.evaluate.pair_comparison import pair_tables
from octoscale.evaluate.set_comparison import common_sets, of_kind, set_tables
from octoscale.evaluate.templates import TemplateEvaluation

# By data set and step.
Scores = Mapping[str, Mapping[int, AnyEvaluation]]


@dataclass(frozen=True)
class Comparison:
    """Tables, and what is in none of them, with the reason."""

    tables: tuple[ComparedTable, ...]
    left_out: tuple[str, ...]


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


def compare(runs: Mapping[str, Scores]) -> Comparison:
    """Before and after, on the data sets and at the resolutions that all runs have in common.

    Accuracy of pairs: the paper's tables 1, 2 and 3, see `pair_tables`. Then a table for each set of templates and each
    gallery, and each of its resolutions.

    Args:
        runs: evaluations by the run's name; see `scores_of`.

    Raises:
        OctoscaleError: the runs have nothing in common that a table could show, or a run's sets of pairs no step; or
            what is one set by its name is not the same, in two runs or before and after.
    """
    pairs = {run: of_kind(scores, Evaluation) for run, scores in runs.items()}
    templates = {run: of_kind(scores, TemplateEvaluation) for run, scores in runs.items()}
    galleries = {run: of_kind(scores, IdentificationEvaluation) for run, scores in runs.items()}
    common = common_sets(pairs)
    parts = [
        pair_tables(pairs, common) if common else ([], []),
        set_tables(templates, "Templates"),
        set_tables(galleries, "Identification"),
    ]
    tables = [table for found, _ in parts for table in found]
    reasons = [reason for _, found in parts for reason in found]
    if tables:
        alone = [*_alone(pairs), *_alone(templates), *_alone(galleries)]
        return Comparison(tuple(tables), (*alone, *reasons))
    if common or common_sets(templates) or common_sets(galleries):
        raise OctoscaleError(f"nothing to compare: {'; '.join(reasons)}; evaluate all alike")
    sets = "; ".join(f"{run} has {', '.join(scores)}" for run, scores in runs.items())
    raise OctoscaleError(f"the runs were evaluated on different data sets: {sets}; evaluate them on the same")


def _alone(runs: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The data sets of one kind that some runs lack."""
    names = dict.fromkeys(name for scores in runs.values() for name in scores)
    lacking = {name: [run for run, scores in runs.items() if name not in scores] for name in names}
    return [f"{name}: no evaluation of it in {', '.join(without)}" for name, without in lacking.items() if without]
