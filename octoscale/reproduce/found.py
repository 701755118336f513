"""How far a cell is, and what it has found: read from its directory alone."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from octoscale.config import Config, parse_config
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError
from octoscale.evaluate.comparable import unlike
from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.kept import kept_files, own_files, read_evaluations
from octoscale.reproduce.cells import Cell

Status = Literal["missing", "unfinished", "finished"]

# What does not change what a run finds: where and how it runs.
_HOW = frozenset(
    {
        "directory", "storage", "checkpoint", "resilience", "telemetry",
        "data.cache_dir", "data.cache_bytes", "data.workers", "evaluate.batch_size", "evaluate.at_start",
        "evaluate.every_steps",
    }
)  # fmt: skip
# Left open, these are what the weights say; the run has written that down.
_SAID_BY_WEIGHTS = frozenset(
    {"model.dialect", "model.batch_norm_epsilon", "model.preprocessing"}
    | {f"model.preprocessing.{key}" for key in ("mean", "std", "color")}
)


@dataclass(frozen=True)
class Found:
    """What there is of a cell.

    Attributes:
        trained: the run has its configured length, and its weights are written.
        before, after: evaluations of the network that it started from and of the final one, by data set.
        lacking_before, lacking_after: benchmarks that are wanted and were not evaluated, or not as they are
            configured now.
    """

    trained: bool = False
    before: Mapping[str, Evaluation] = field(default_factory=dict)
    after: Mapping[str, Evaluation] = field(default_factory=dict)
    lacking_before: tuple[str, ...] = ()
    lacking_after: tuple[str, ...] = ()
    started: bool = False

    @property
    def status(self) -> Status:
        if self.trained and not self.lacking_before and not self.lacking_after:
            return "finished"
        return "unfinished" if self.started else "missing"


def look(cell: Cell) -> Found:
    """What there is of `cell`.

    Raises:
        OctoscaleError: its directory holds a run with other settings, or cannot be read; an evaluation in it is none.
    """
    config = cell.config
    store = Store(config.directory, config.storage)
    if not store.exists("config.yaml"):
        return Found(lacking_before=cell.wanted_benchmarks if cell.before else (), lacking_after=cell.wanted_benchmarks)
    _check_same(store, cell)
    own = own_files(store)
    last = max(own, default=0)
    trained = last > 0 and config.steps in (None, last) and store.exists("weights.pt")
    kept = _kept(store, cell, {0, last})
    before: dict[str, Evaluation] = {}
    after: dict[str, Evaluation] = {}
    if 0 in own:
        before = _own(store, own[0]) | {name: each for (name, step), each in kept.items() if step == 0}
    if trained:
        after = _own(store, own[last]) | {name: each for (name, step), each in kept.items() if step == last}
    return Found(
        trained=trained,
        before=before,
        after=after,
        lacking_before=tuple(name for name in cell.wanted_benchmarks if cell.before and (name, 0) not in kept),
        lacking_after=tuple(name for name in cell.wanted_benchmarks if (name, last) not in kept or not trained),
        started=True,
    )


def _own(store: Store, name: str) -> dict[str, Evaluation]:
    """The run's own evaluation in a file, by the name of its protocol."""
    (found,) = read_evaluations(store, [name])
    if not isinstance(found, Evaluation):
        raise OctoscaleError(f"{store.url.rstrip('/')}/{name} is of {found.kind}, and a run is evaluated on pairs")
    return {found.name or found.protocol: found}


def _kept(store: Store, cell: Cell, steps: Collection[int]) -> dict[tuple[str, int], Evaluation]:
    """The kept evaluations of the wanted benchmarks, by name and step, that are as the configuration says now."""
    if not cell.wanted_benchmarks or cell.config.evaluate is None:
        return {}
    evaluate = cell.config.evaluate
    wanted = {name: evaluate.on(evaluate.pair_benchmarks[name]) for name in cell.wanted_benchmarks}
    files = {key: name for key, name in kept_files(store).items() if key[0] in wanted and key[1] in steps}
    found = zip(files, read_evaluations(store, list(files.values())), strict=True)
    return {
        key: evaluation
        for key, evaluation in found
        if isinstance(evaluation, Evaluation) and not unlike(evaluation, wanted[key[0]])
    }


def differences(stored: Config, wanted: Config) -> list[str]:
    """What a run was made with and is not wanted now, among what changes its result; relative paths are from here."""
    old, new = (
        dict(_flat(_drawn(config.with_absolute_paths()).model_dump(mode="json"))) for config in (stored, wanted)
    )
    for one, other in ((old, new), (new, old)):
        # A data set that only one of them has was left out or added; what is lacking is evaluated.
        for key in _only_here(one, other):
            del one[key]
    ignored = _HOW | {key for key in _SAID_BY_WEIGHTS if key in new and new[key] is None}
    changed = []
    for key in sorted(old.keys() | new.keys()):
        parts = key.split(".")
        blocks = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        if old.get(key) != new.get(key) and not blocks & ignored:
            changed.append(f"{key} was {old.get(key)}, is {new.get(key)}")
    return changed


def _drawn(config: Config) -> Config:
    """Without the templates and galleries, of which nothing is drawn."""
    if config.evaluate is None:
        return config
    evaluate = config.evaluate.model_copy(update={"benchmarks": config.evaluate.pair_benchmarks})
    return config.model_copy(update={"evaluate": evaluate})


def _only_here(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys of benchmarks that `other` does not name, both flat; and of none at all."""
    prefix = "evaluate.benchmarks"
    shared = {key.split(".")[2] for key in other if key.startswith(f"{prefix}.")}
    return [key for key in one if key == prefix or (key.startswith(f"{prefix}.") and key.split(".")[2] not in shared)]


def _check_same(store: Store, cell: Cell) -> None:
    where = f"{store.url.rstrip('/')}/config.yaml"
    try:
        values = yaml.safe_load(store.read("config.yaml"))
    except yaml.YAMLError as error:
        raise OctoscaleError(f"{where} is not valid YAML; give another --directory") from error
    if not isinstance(values, dict):
        raise OctoscaleError(f"{where} is no configuration; give another --directory")
    changed = differences(parse_config(values, source=where), cell.config)
    if changed:
        raise OctoscaleError(
            f"{store.url} holds a run with other settings ({'; '.join(changed)}): give another --directory, or set "
            "these back"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
