"""Templates and galleries of several runs side by side."""

from collections.abc import Mapping
from typing import TypeVar

from octoscale.evaluate.comparable import check_comparable, lacking_resolutions
from octoscale.evaluate.compared_table import ComparedTable, before_and_after, table_of
from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.identification import IdentificationEvaluation
from octoscale.evaluate.kinds import AnyEvaluation
from octoscale.evaluate.templates import TemplateEvaluation

_E = TypeVar("_E", Evaluation, TemplateEvaluation, IdentificationEvaluation)
# Nearly the same in all rows: what is interesting of a ROC lies at its left end.
_LEFT_OUT = "AUC"


def of_kind(scores: Mapping[str, Mapping[int, AnyEvaluation]], kind: type[_E]) -> dict[str, dict[int, _E]]:
    """The evaluations of one kind, by data set and step."""
    found = {
        name: {step: evaluation for step, evaluation in by_step.items() if isinstance(evaluation, kind)}
        for name, by_step in scores.items()
    }
    return {name: by_step for name, by_step in found.items() if by_step}


def common_sets(runs: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The data sets that all runs have, in the order of the first."""
    return [name for name in next(iter(runs.values())) if all(name in scores for scores in runs.values())]


def set_tables(
    runs: Mapping[str, Mapping[str, Mapping[int, TemplateEvaluation | IdentificationEvaluation]]], title: str
) -> tuple[list[ComparedTable], list[str]]:
    """A table for each set that all runs have, and for each resolution at which all evaluated it.

    Columns are the rates that are measurable in every evaluation.

    Returns:
        The tables, and what is in none of them, with the reason.

    Raises:
        OctoscaleError: evaluations of one set are not of the same.
    """
    tables: list[ComparedTable] = []
    left_out: list[str] = []
    for name in common_sets(runs):
        moments = {
            run: {step: scores[name][step] for step in before_and_after(scores[name])} for run, scores in runs.items()
        }
        check_comparable(name, moments)
        lacking = lacking_resolutions(
            [(f"{run} (step {step})", each) for run, steps in moments.items() for step, each in steps.items()]
        )
        if all(lacking.values()):
            left_out.append(f"{name}: the evaluations have no resolution in common")
            continue
        for resolution, without in lacking.items():
            if without:
                size = "not degraded" if resolution is None else f"{resolution} px"
                left_out.append(f"{name}, {size}: {without[0]} lacks it")
                continue
            rates = {
                run: {step: evaluation.scores[resolution].rates for step, evaluation in steps.items()}
                for run, steps in moments.items()
            }
            where = name if resolution is None else f"{name}, {resolution} px"
            tables.append(_table(f"{title}, % ({where})", rates))
    return tables, left_out


def _table(title: str, rates: Mapping[str, Mapping[int, Mapping[str, float | None]]]) -> ComparedTable:
    every = [rate for steps in rates.values() for rate in steps.values()]
    columns = [
        column for column in every[0] if column != _LEFT_OUT and all(rate.get(column) is not None for rate in every)
    ]
    values = {
        run: {step: tuple(rate[column] or 0.0 for column in columns) for step, rate in steps.items()}
        for run, steps in rates.items()
    }
    return table_of(title, tuple(columns), values)
