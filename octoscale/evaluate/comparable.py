"""What makes evaluations of one data set comparable: all they record but the network's own numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import AnyConfig, EvaluateConfig, TemplateConfig
from octoscale.evaluate.evaluation import Evaluation, as_recorded
from octoscale.evaluate.kinds import AnyEvaluation
from octoscale.evaluate.templates import TemplateEvaluation

# Of the network, or where the data set lay.
_APART = frozenset({"name", "step", "mean_embedding_norm", "scores", "pairs_url", "images_url"})


def differences(one: AnyEvaluation, other: AnyEvaluation) -> list[str]:
    """What two evaluations of one kind are not of the same: "flip False and True"."""
    mine, others = _facts(one), _facts(other)
    return [
        f"{key.replace('_', ' ')} {mine[key]} and {others[key]}"
        for key in mine
        if key in others and mine[key] != others[key]
    ]


def is_alike(one: AnyEvaluation, other: AnyEvaluation) -> bool:
    """Whether two evaluations are of the same, at the same resolutions too."""
    return type(one) is type(other) and not differences(one, other) and one.scores.keys() == other.scores.keys()


def unlike(evaluation: AnyEvaluation, config: AnyConfig) -> list[str]:
    """What an evaluation is otherwise than `config` would give it now: "flip True, not False".

    What it does not record, as those of earlier versions, is believed.
    """
    recorded: dict[str, object] = {"protocol": evaluation.protocol, "flip": evaluation.flip}
    wanted: dict[str, object] = {"protocol": config.protocol, "flip": config.flip}
    if isinstance(evaluation, Evaluation) and isinstance(config, EvaluateConfig):
        recorded |= {"modes": sorted(evaluation.modes), "resolutions": list(evaluation.resolutions)}
        recorded |= {"pairs": evaluation.pairs_url, "images": evaluation.images_url}
        wanted |= {"modes": sorted(config.modes), "resolutions": list(config.resolutions)}
        wanted |= {"pairs": as_recorded(config.pairs), "images": as_recorded(config.images or "")}
    elif not isinstance(config, EvaluateConfig):
        recorded["resolutions"] = list(evaluation.resolutions)
        wanted["resolutions"] = list(config.resolutions or (None,))
        if isinstance(evaluation, TemplateEvaluation) and isinstance(config, TemplateConfig):
            recorded["align"], wanted["align"] = evaluation.aligned, config.align
    return [f"{key} {value}, not {wanted[key]}" for key, value in recorded.items() if value not in ("", wanted[key])]


def lacking_resolutions(evaluations: Sequence[tuple[str, AnyEvaluation]]) -> dict[int | None, list[str]]:
    """Which of the evaluations lack a resolution, by each that one of them has; of one in common, none.

    Args:
        evaluations: each with what it is of.
    """
    every = dict.fromkeys(resolution for _, each in evaluations for resolution in each.resolutions)
    return {
        resolution: [where for where, each in evaluations if resolution not in each.resolutions] for resolution in every
    }


def check_comparable(name: str, evaluations: Mapping[str, Mapping[int, AnyEvaluation]]) -> None:
    """Refuse to show evaluations in one table that are not of the same.

    Args:
        name: of the data set.
        evaluations: of one kind, by run and step.

    Raises:
        OctoscaleError: two of them differ; the data set, the runs and the difference are named.
    """
    (where, first), *others = [
        (f"{run} (step {step})", evaluation)
        for run, by_step in evaluations.items()
        for step, evaluation in by_step.items()
    ]
    for elsewhere, other in others:
        if found := differences(first, other):
            raise OctoscaleError(
                f"{name} is not the same in {where} and {elsewhere}: {'; '.join(found)}; evaluate both alike, or "
                "give one of them another name"
            )


def _facts(evaluation: AnyEvaluation) -> dict[str, object]:
    """By field; what earlier versions did not record is left out."""
    values = {field.name: getattr(evaluation, field.name) for field in fields(evaluation)}
    return {key: value for key, value in values.items() if key not in _APART and value != ""}
