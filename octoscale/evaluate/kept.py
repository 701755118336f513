"""Evaluations of any kind in files: of one data set or of several, and in a run's directory."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.data.temporary import written_whole
from octoscale.errors import OctoscaleError
from octoscale.evaluate.comparable import unlike
from octoscale.evaluate.config import AnyConfig, EvaluateConfig
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


def check_keepable(
    wanted: Mapping[str, AnyConfig], configured: EvaluateConfig | None, run: str, storage: StorageConfig | None = None
) -> None:
    """Refuse what would stand in a run's tables for evaluations of its name that are made otherwise.

    Args:
        wanted: what is to be evaluated and kept, by name.
        configured: what the run evaluates itself, under the name of its protocol.

    Raises:
        OctoscaleError: what is configured, the run's newest evaluation of its own or a kept one has the name, and other
            settings.
    """
    advice = "give it a name of its own in evaluate.benchmarks, where resolutions may stand too, or leave out --keep"
    if configured is not None and wanted.get(configured.protocol, configured) != configured:
        raise OctoscaleError(
            f"--keep: {configured.protocol} is what the run's own evaluations are called, and this one is not as "
            f"configured: {advice}"
        )
    store = Store(run, storage or StorageConfig())
    newest = list(own_files(store).values())[-1:]
    files = [*newest, *(file for (name, _), file in kept_files(store).items() if name in wanted)]
    for file, there in zip(files, read_evaluations(store, files), strict=True):
        name = there.name or there.protocol
        if name in wanted and (found := unlike(there, wanted[name])):
            raise OctoscaleError(
                f"--keep: {store.url.rstrip('/')}/{file} is another evaluation of {name} ({'; '.join(found)}): {advice}"
            )


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
