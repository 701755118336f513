"""What a run has left behind, read from its directory."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import fmean
from typing import Any

import yaml

from octoscale.checkpoint import Checkpoints, DamagedError
from octoscale.checkpoint.attempts import Claim, claims
from octoscale.checkpoint.layout import Commit
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig, redacted
from octoscale.errors import OctoscaleError
from octoscale.evaluate.comparable import differences
from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.kept import kept_files, own_files
from octoscale.evaluate.kinds import from_json
from octoscale.journal import read_journal
from octoscale.measured import StepLine
from octoscale.trained import places_with_commits

NOISE_NAME = "noise/noise.json"
RECORDED_NAME = "telemetry/metrics.jsonl"
MOST_RUNS = 8
# Forms of lists that anyone's pairs may have.
_ANYONES = ("lfw", "csv", "bin")
# Of the recorder's file, as much as a few hundred steps have at least.
_RECORDED_BYTES = 4 * 2**20
_OVER_RANKS = re.compile(r"octoscale_job_phase_seconds_(mean|max)/(\w+)")


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        target: its directory, a path or URL.
        storage: how it is reached; None: by the defaults, and what its configuration names as that says.
        name: the shortest end of it that tells it from the other runs of the page.
        values: its configuration, as the run wrote it.
        evaluations: of pairs, by data set, ascending by step.
        lines: of its steps, ascending.
        commits: that count, oldest first.
        record: what the newest commit says of the run: versions, position, ledger of wall time; empty without one.
        attempts: the last few starts of the run.
        rank_phases: seconds of each phase of the last recorded steps, mean of the ranks and slowest rank; empty
            without the jsonl recorder.
        noise: the ledger of `octoscale noise`, if one is in its directory.
        problems: what is there but cannot be read.
    """

    target: str
    storage: StorageConfig | None
    name: str
    values: dict[str, Any]
    evaluations: dict[str, tuple[Evaluation, ...]]
    lines: tuple[StepLine, ...]
    commits: tuple[Commit, ...]
    record: dict[str, Any]
    attempts: tuple[Claim, ...]
    rank_phases: dict[str, tuple[float, float]]
    noise: dict[str, Any] | None
    problems: tuple[str, ...]

    @property
    def places(self) -> tuple[str, ...]:
        """What its configuration names that a report reads: its data set, and its checkpoints if they are elsewhere."""
        named = ((self.values.get(block) or {}).get("url") for block in ("data", "checkpoint"))
        return tuple(str(place) for place in named if place is not None)

    @property
    def steps(self) -> int:
        """Steps that are safe; without a commit those of the journal."""
        if self.commits:
            return self.commits[-1].step
        return self.lines[-1].step if self.lines else 0

    @property
    def images(self) -> int:
        """High-resolution images that the steps saw."""
        seen = self.record.get("position", {}).get("samples_seen")
        return int(seen) if seen is not None else self.steps * int(self.values.get("global_batch_size", 0))

    @property
    def restarts(self) -> int | None:
        """How often it was started again; None where its attempts are not known."""
        return self.attempts[-1].number - 1 if self.attempts else None

    @property
    def wall_seconds(self) -> dict[str, float]:
        """By state, over all attempts, up to the newest commit; empty where it is not known."""
        ledger = self.record.get("ledger") or {}
        return {state: float(seconds) for state, seconds in ledger.get("seconds", {}).items()}

    @property
    def goodput(self) -> float | None:
        """The share of the wall time that advanced the training."""
        seconds = self.wall_seconds
        total = sum(seconds.values())
        return seconds.get("productive", 0.0) / total if total > 0 else None


def read_runs(targets: Sequence[str], storage: StorageConfig | None = None) -> list[Run]:
    """Read the runs in the directories `targets`.

    Raises:
        OctoscaleError: one of them holds no run, is given twice or does not answer, or there are more than 8.
    """
    if len(targets) > MOST_RUNS:
        raise OctoscaleError(f"{len(targets)} runs are too many for one page; give at most {MOST_RUNS}")
    return [read_run(target, name, storage) for target, name in zip(targets, short_names(targets), strict=True)]


def read_run(target: str, name: str, storage: StorageConfig | None = None) -> Run:
    """Read one run, reached by `storage`. Raises OctoscaleError where `target` holds none."""
    store = Store(target, storage or StorageConfig())
    if not store.exists("config.yaml"):
        raise OctoscaleError(
            f"{redacted(target)} holds no config.yaml, so it is not a run's directory; give what the run's "
            "configuration calls `directory`"
        )
    problems: list[str] = []
    values = _configuration(store)
    commits, record, attempts = _commits(target, storage, problems)
    return Run(
        target=target,
        storage=storage,
        name=name,
        values=values,
        evaluations=_evaluations(store, values, problems),
        lines=_lines(store, problems),
        commits=commits,
        record=record,
        attempts=attempts,
        rank_phases=_rank_phases(store, problems),
        noise=_noise(store, problems),
        problems=tuple(problems),
    )


def short_names(targets: Sequence[str]) -> list[str]:
    """Of each target the last parts, as many as it takes to tell them apart."""
    parts = [PurePosixPath(target.rstrip("/")).parts for target in targets]
    for target, own in zip(targets, parts, strict=True):
        if parts.count(own) > 1:
            raise OctoscaleError(f"the run {redacted(target)} is given twice; give each run once")
    length = next(
        length for length in range(1, 2 + max(map(len, parts))) if len({part[-length:] for part in parts}) == len(parts)
    )
    return ["/".join(part[-length:]) or "." for part in parts]


def _configuration(store: Store) -> dict[str, Any]:
    # Not as a `Config`: a run of an earlier version has other keys, and all of them are shown.
    try:
        values = yaml.safe_load(store.read("config.yaml").decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OctoscaleError(f"{store.url.rstrip('/')}/config.yaml is not a configuration: {error}") from error
    if not isinstance(values, dict) or "global_batch_size" not in values:
        raise OctoscaleError(f"{store.url.rstrip('/')}/config.yaml is not the configuration of a run")
    return values


def _evaluations(store: Store, values: dict[str, Any], problems: list[str]) -> dict[str, tuple[Evaluation, ...]]:
    found: dict[str, dict[int, tuple[str, Evaluation]]] = {}
    names = [*own_files(store).values(), *kept_files(store).values()]
    for name, data in zip(names, store.read_many(names), strict=True):
        try:
            evaluation = from_json(data.decode(errors="replace"))
        except OctoscaleError as error:
            problems.append(f"{name} is {error}")
            continue
        # Templates and galleries have no accuracy by resolution.
        if isinstance(evaluation, Evaluation):
            found.setdefault(_data_set_name(evaluation, values), {})[evaluation.step] = name, evaluation
    return {title: _of_the_same(by_step, problems) for title, by_step in found.items()}


def _of_the_same(by_step: dict[int, tuple[str, Evaluation]], problems: list[str]) -> tuple[Evaluation, ...]:
    """Those that are of the same as the newest, ascending by step."""
    newest_name, newest = by_step[max(by_step)]
    alike = []
    for _, (name, evaluation) in sorted(by_step.items()):
        if apart := differences(evaluation, newest):
            problems.append(f"{name} is not of the same as {newest_name} ({'; '.join(apart)}), and left out")
        else:
            alike.append(evaluation)
    return tuple(alike)


def _data_set_name(evaluation: Evaluation, values: dict[str, Any]) -> str:
    """Its own, its published protocol's, or else what the list of pairs is called, or the folder that it is in."""
    if evaluation.name or evaluation.protocol not in _ANYONES:
        return evaluation.name or evaluation.protocol
    pairs = PurePosixPath(str((values.get("evaluate") or {}).get("pairs", "pairs")))
    return pairs.parent.name if pairs.stem == "pairs" and pairs.parent.name else pairs.stem


def _lines(store: Store, problems: list[str]) -> tuple[StepLine, ...]:
    try:
        return tuple(read_journal(store))
    except (ValueError, TypeError, KeyError) as error:
        problems.append(f"the journal in steps/ cannot be read ({error!r})")
        return ()


def _commits(
    target: str, storage: StorageConfig | None, problems: list[str]
) -> tuple[tuple[Commit, ...], dict[str, Any], tuple[Claim, ...]]:
    """The commits of the first place that has some, the newest one's record, and the attempts there."""
    for checkpoints in places_with_commits(target, storage):
        commits = tuple(checkpoints.commits())
        return commits, _newest_record(checkpoints, commits, problems), tuple(claims(checkpoints.store))
    return (), {}, ()


def _newest_record(checkpoints: Checkpoints, commits: Sequence[Commit], problems: list[str]) -> dict[str, Any]:
    for commit in reversed(commits):
        try:
            return checkpoints.record(commit)
        except DamagedError as error:
            problems.append(f"the commit of step {commit.step} is damaged ({error})")
    return {}


def _rank_phases(store: Store, problems: list[str]) -> dict[str, tuple[float, float]]:
    if not store.exists(RECORDED_NAME):
        return {}
    size = store.size(RECORDED_NAME)
    text = store.read_range(RECORDED_NAME, max(0, size - _RECORDED_BYTES), size).decode(errors="replace")
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    try:
        # The first line may be cut; the last one too, while the run goes on.
        for line in text.splitlines()[size > _RECORDED_BYTES : None if text.endswith("\n") else -1]:
            for name, value in json.loads(line).items():
                if (match := _OVER_RANKS.fullmatch(name)) is not None:
                    found[match[2], match[1]].append(float(value))
    except (ValueError, TypeError, AttributeError) as error:
        problems.append(f"{RECORDED_NAME} cannot be read ({error!r})")
        return {}
    return {phase: (fmean(found[phase, "mean"]), fmean(found[phase, "max"])) for phase, kind in found if kind == "mean"}


def _noise(store: Store, problems: list[str]) -> dict[str, Any] | None:
    if not store.exists(NOISE_NAME):
        return None
    try:
        document: dict[str, Any] = json.loads(store.read(NOISE_NAME))
        return {"survey": document["survey"], "pairs": document["pairs"]}
    except (ValueError, TypeError, KeyError) as error:
        problems.append(f"{NOISE_NAME} is not a ledger of octoscale noise ({error!r})")
        return None
