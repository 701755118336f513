"""Where the figures of a run come from: its ranks' endpoints, or the files that it leaves behind."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig, refuse_for_local
from octoscale.errors import OctoscaleError
from octoscale.journal import StepLine
from octoscale.telemetry.scrape import Sample, Scrape, scrape
from octoscale.telemetry.table import METRICS
from octoscale.telemetry.targets import targets_of

_ADDRESS = re.compile(r"https?://\S+|(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}")
# The end of a metrics.jsonl that is read: what changes in every step is there, and of the rest the last value.
_TAIL_BYTES = 2**20


@dataclass(frozen=True)
class Seen:
    """What one look found.

    Attributes:
        scrapes: of the ranks, by their number as far as it is known before they answer; or one, of a file.
        steps: of the whole run, where its configuration tells.
        is_live: asked of the ranks; else read from a file.
        source: where it comes from.
    """

    scrapes: list[tuple[int | None, Scrape]]
    steps: int | None
    is_live: bool
    source: str


class Source(Protocol):
    """A run that can be looked at again and again."""

    name: str

    def look(self, timeout_seconds: float) -> Seen:
        """What is there now. Never raises because a rank does not answer."""


def source_of(run: str, storage: StorageConfig | None = None) -> Source:
    """A source from a run's directory (a path or URL), or the address of a metrics endpoint.

    Args:
        storage: how the directory is reached; what it leaves open is impatient.

    Raises:
        OctoscaleError: neither of these, or `storage` for what is not on object storage.
    """
    if _ADDRESS.fullmatch(run) and not Path(run).is_dir():
        if storage is not None:
            raise OctoscaleError(
                f"--storage is of a run's directory, and {run} is the address of its metrics; leave it out"
            )
        return _Endpoint(run)
    store = Store(run, _impatient(storage or StorageConfig()))
    refuse_for_local(storage, run)
    if not store.exists("config.yaml") and not (store.is_local and store.local_path("telemetry").is_dir()):
        raise OctoscaleError(
            f"{run} is no run: it has no config.yaml; give a run's directory, or HOST:PORT of a rank's metrics"
        )
    return _Directory(run, store)


def _impatient(storage: StorageConfig) -> StorageConfig:
    """`storage`, with what it leaves open impatient, as another look follows soon; a longer wait has time for a try."""
    wait = storage.timeout_seconds if "timeout_seconds" in storage.model_fields_set else 0.0
    return storage.over(StorageConfig(timeout_seconds=5.0, deadline_seconds=max(10.0, wait)))


class _Endpoint:
    """One rank's address. Rank 0 tells of all."""

    def __init__(self, address: str) -> None:
        self.name = address

    def look(self, timeout_seconds: float) -> Seen:
        (found,) = scrape([self.name], timeout_seconds=timeout_seconds)
        return Seen([(None, found)], None, True, self.name)


class _Directory:
    """A run's directory: the targets in it lead to its ranks; where there are none, its last lines tell."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self._store = store

    def look(self, timeout_seconds: float) -> Seen:
        values = self._config()
        steps = values.get("steps")
        configured = (values.get("telemetry") or {}).get("folder")
        folder = Path(configured).expanduser() if configured else None
        if folder is None and self._store.is_local:
            folder = self._store.local_path("telemetry")
        if folder is not None:
            # The next attempt has other ones.
            targets = targets_of(folder / "targets", run=values.get("directory") or self.name)
            if targets:
                scrapes = scrape(list(targets.values()), timeout_seconds=timeout_seconds)
                return Seen(list(zip(targets, scrapes, strict=True)), steps, True, str(folder / "targets"))
            if (lines := folder / "metrics.jsonl").is_file():
                return Seen([(0, Scrape(str(lines), tuple(_recorded(lines))))], steps, False, str(lines))
        return Seen([(0, found) for found in self._journal()], steps, False, f"{self._store.url.rstrip('/')}/steps")

    def _config(self) -> dict[str, Any]:
        try:
            values = yaml.safe_load(self._store.read("config.yaml"))
        except (OctoscaleError, yaml.YAMLError):
            # It may be written in this moment, or the storage be away for one.
            return {}
        return values if isinstance(values, dict) else {}

    def _journal(self) -> list[Scrape]:
        try:
            names = self._store.list("steps")
            if not names:
                return []
            lines = self._store.read(names[-1]).decode().splitlines()
            return [Scrape(names[-1], tuple(_journalled(StepLine.from_json(json.loads(lines[-1])))))]
        except OctoscaleError as error:
            return [Scrape("steps", fault=str(error))]
        except (ValueError, KeyError, TypeError, IndexError):
            return [Scrape(names[-1], fault="its last line makes no sense")]


def _recorded(path: Path) -> Iterator[Sample]:
    """The last value of everything in the end of a ``metrics.jsonl``."""
    labels = {metric.name: metric.labels for metric in METRICS if metric.kind != "histogram"}
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    values: dict[str, float] = {}
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            # The first of them is cut, and the last may be in the making.
            continue
        if isinstance(found, dict):
            values |= found
    for key, value in values.items():
        name, *of_labels = key.split("/")
        if name in labels and len(of_labels) == len(labels[name]):
            yield Sample(name, {"rank": "0", **dict(zip(labels[name], of_labels, strict=True))}, float(value))


def _journalled(line: StepLine) -> Iterator[Sample]:
    """The step that was committed last."""
    result = line.result
    for name, value in (
        ("octoscale_step", line.step),
        ("octoscale_epoch", line.epoch),
        ("octoscale_learning_rate", line.learning_rate),
        ("octoscale_gradient_norm", result.gradient_norm),
        ("octoscale_embedding_norm", result.embedding_norm),
        ("octoscale_embedding_norm_deviation", result.embedding_norm_deviation),
    ):
        yield Sample(name, {"rank": "0"}, float(value))
    for term, means in result.terms.items():
        for name, value in (
            ("octoscale_loss", means.loss),
            ("octoscale_triplet_active_ratio", means.active_fraction),
            ("octoscale_triplet_inverted_ratio", means.nearer_fraction),
            ("octoscale_positive_distance", means.positive_distance),
            ("octoscale_negative_distance", means.negative_distance),
        ):
            yield Sample(name, {"rank": "0", "term": term}, float(value))
