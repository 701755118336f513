"""Evaluations of any kind in files: of one data set or of several, and in a run's directory."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.data.temporary import written_whole
from octoscale.errors import OctoscaleError
from octoscale.evaluate.kinds import AnyEvaluation, from_json

_FOLDER = "benchmarks"
# In a run's directory; whatever else lies there, such as what a file manager leaves, counts for nothing.
_OWN = re.compile(r"evaluations/(\d+)\.json")
_KEPT = re.compile(rf"{_FOLDER}/([^/]+)/(\d+)\.json")


def write_scores(evaluations: Sequence[AnyEvaluation], path: Path) -> None:
    """Write one evaluation as `from_json` reads it, several as an object of them by name.

    Raises:
        OctoscaleError: it cannot be written; what was there stays.
    """
    if len(evaluations) == 1:
        text = evaluations[0].to_json()
    else:
        text = json.dumps({evaluation.name: json.loads(evaluation.to_json()) for evaluation in evaluations}, indent=1)
    with written_whole(path) as file:
        file.write(f"{text}\n".encode())


def read_scores(text: str, source: str) -> list[AnyEvaluation]:
    """The evaluations that `write_scores` wrote.

    Raises:
        OctoscaleError: not evaluations; `source` is named.
    """
    try:
        values = json.loads(text)
        several = isinstance(values, dict) and "scores" not in values
        return [from_json(json.dumps(value)) for value in (values.values() if several else [values])]
    except (ValueError, AttributeError) as error:
        raise OctoscaleError(
            f"{source} holds no scores ({error}); write them with octoscale evaluate --scores"
        ) from error


def keep_scores(evaluations: Sequence[AnyEvaluation], run: str, storage: StorageConfig | None = None) -> None:
    """Keep evaluations in a run's directory, reached by `storage`, as ``benchmarks/NAME/STEP.json``."""
    store = Store(run, storage or StorageConfig())
    for evaluation in evaluations:
        store.write(f"{_FOLDER}/{evaluation.name}/{evaluation.step:08d}.json", evaluation.to_json().encode())


def own_files(store: Store) -> dict[int, str]:
    """The files of the evaluations that a run's training made, by step."""
    found = [(name, _OWN.fullmatch(name)) for name in store.list("evaluations")]
    return {int(match[1]): name for name, match in found if match}


def kept_files(store: Store) -> dict[tuple[str, int], str]:
    """The files that `keep_scores` wrote in a run's directory, by name and step."""
    found = [(name, _KEPT.fullmatch(name)) for name in store.list(_FOLDER)]
    return {(match[1], int(match[2])): name for name, match in found if match}


def read_evaluations(store: Store, names: Sequence[str]) -> list[AnyEvaluation]:
    """One evaluation of each file.

    Raises:
        OctoscaleError: a file is not an evaluation; it is named.
    """
    found = []
    for name, text in zip(names, store.read_many(names), strict=True):
        try:
            found.append(from_json(text.decode(errors="replace")))
        except OctoscaleError as error:
            raise OctoscaleError(f"{store.url.rstrip('/')}/{name} is {error}") from error
    return found
