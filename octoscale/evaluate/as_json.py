"""How evaluations of every kind are written as JSON and read again."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from octoscale.errors import OctoscaleError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Of evaluations that do not name their kind, too: those of earlier versions.
PAIRS_KIND = "pairs"


def scores_to_json(kind: str, evaluation: "DataclassInstance", scores: "Mapping[int | None, DataclassInstance]") -> str:
    """An evaluation with a score for each resolution. A number is no key in JSON, so the scores are a list."""
    listed = [{"resolution": resolution, **asdict(score)} for resolution, score in scores.items()]
    return json.dumps({"kind": kind, **asdict(evaluation), "scores": listed}, indent=1)


def kind_of(text: str) -> str:
    """Which kind of evaluation `text` is.

    Raises:
        OctoscaleError: it is none.
    """
    try:
        return str(json.loads(text).get("kind", PAIRS_KIND))
    except (ValueError, AttributeError) as error:
        raise unreadable(error) from error


@contextmanager
def reading(kind: str, text: str) -> Iterator[dict[str, Any]]:
    """The values of an evaluation of this kind; whatever goes wrong while they are used is told as one error.

    Raises:
        OctoscaleError: not an evaluation of this kind.
    """
    try:
        values = json.loads(text)
        found = values.pop("kind", PAIRS_KIND)
        if found != kind:
            raise ValueError(f"its kind is {found}, not {kind}")
        yield values
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise unreadable(error) from error


def unreadable(error: Exception) -> OctoscaleError:
    """What is told of a text that is no evaluation."""
    return OctoscaleError(f"not an evaluation in JSON ({error!r}); evaluate again")


def by_number(values: Mapping[str, Any], number: Callable[[str], Any]) -> dict[Any, Any]:
    """With numbers as keys again."""
    return {number(key): value for key, value in values.items()}


def intervals_of(score: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The intervals of a score, by name, as tuples again; scores of earlier versions have none."""
    return {name: (low, high) for name, (low, high) in score.get("intervals", {}).items()}
