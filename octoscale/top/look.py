"""One look at a run: what its ranks' metrics say, put together."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from octoscale.telemetry.scrape import Scrape
from octoscale.top.sources import Seen

# Speeds are those of the last so many seconds; at the first look, since the process began.
_WINDOW_SECONDS = 30.0
# Between steps, not in them.
_BETWEEN = ("checkpoint", "evaluate")


@dataclass(frozen=True)
class Term:
    """One term of the loss. None: not measured."""

    loss: float | None
    active_ratio: float | None
    inverted_ratio: float | None
    positive_distance: float | None
    negative_distance: float | None
    largest_hub_anchors: float | None


@dataclass(frozen=True)
class Rank:
    """One rank, or an address that did not answer.

    Attributes:
        fault: why nothing is known of it; None where it answers.
        phases: share of the rank's time in each phase of its steps and between them.
    """

    rank: int | None
    address: str
    fault: str | None
    step: int | None = None
    images_per_second: float | None = None
    queue_depth: float | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    device_memory_bytes: float | None = None


@dataclass(frozen=True)
class Look:
    """The run as it is. None: not known.

    Attributes:
        is_live: told by its ranks; else by a file that it left behind.
        wall_seconds: of the run so far, by state.
        accuracy: of the last evaluation, by mode and resolution.
    """

    unix_time: float
    source: str
    is_live: bool
    run: str | None
    step: int | None
    steps: int | None
    epoch: int | None
    loss: float | None
    images_per_second: float | None
    eta_seconds: float | None
    goodput_ratio: float | None
    wall_seconds: Mapping[str, float]
    world_size: int | None
    attempt: int | None
    restarts: int | None
    steps_lost: int | None
    steps_replayed: int | None
    recovery_seconds: float | None
    checkpoint_age_seconds: float | None
    learning_rate: float | None
    gradient_norm: float | None
    embedding_norm: float | None
    embedding_norm_deviation: float | None
    embedding_effective_rank: float | None
    terms: Mapping[str, Term]
    accuracy: Mapping[str, Mapping[str, float]]
    ranks: tuple[Rank, ...]

    @property
    def is_known(self) -> bool:
        """Whether anything answered."""
        return any(rank.fault is None for rank in self.ranks)


class _Series:
    """The samples of one scrape, by name."""

    def __init__(self, scrape: Scrape) -> None:
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for sample in scrape.samples:
            self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def one(self, name: str, **labels: str) -> float | None:
        for found, value in self._samples.get(name, ()):
            if labels.items() <= found.items():
                return value
        return None

    def whole(self, name: str) -> int | None:
        value = self.one(name)
        return None if value is None or not math.isfinite(value) else int(value)

    def by(self, name: str, label: str) -> dict[str, float]:
        return {labels[label]: value for labels, value in self._samples.get(name, ()) if label in labels}

    def label(self, name: str, label: str) -> str | None:
        for labels, _ in self._samples.get(name, ()):
            return labels.get(label)
        return None


class _Growth:
    """How counters of one process grow: over the last seconds, or since it began."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, dict[str, float]]] = deque()

    def take(self, now: float, totals: dict[str, float]) -> tuple[float | None, dict[str, float]]:
        """Seconds and growth in them; None for the seconds at the first look, whose growth is all there is."""
        if self._seen and any(totals.get(key, 0.0) < value for key, value in self._seen[-1][1].items()):
            # Another process has taken its place.
            self._seen.clear()
        self._seen.append((now, totals))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _WINDOW_SECONDS:
            self._seen.popleft()
        then, before = self._seen[0]
        if then == now:
            return None, totals
        return now - then, {key: total - before.get(key, 0.0) for key, total in totals.items()}


class Watch:
    """Turns one look's samples after another into what is shown."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._growth: dict[str, _Growth] = {}

    def take(self, seen: Seen) -> Look:
        """What the samples say together."""
        now = self._clock()
        scrapes = [scrape for _, scrape in seen.scrapes]
        series = [_Series(scrape) for scrape in scrapes]
        ranks = [self._rank(now, *found, one) for found, one in zip(seen.scrapes, series, strict=True)]
        # Rank 0 tells of all; without it, what every rank knows.
        answered = sorted((rank.rank or 0, number) for number, rank in enumerate(ranks) if rank.fault is None)
        main = series[answered[0][1]] if answered else _Series(Scrape(""))
        step, speed = main.whole("octoscale_step"), None
        samples = main.one("octoscale_job_samples_total")
        if seen.is_live and samples is not None:
            speed = self._speed(now, "job", samples, main)
        committed = main.one("octoscale_checkpoint_last_committed_timestamp_seconds")
        losses = main.by("octoscale_loss", "term")
        return Look(
            unix_time=now,
            source=seen.source,
            is_live=seen.is_live,
            run=main.label("octoscale_step", "run"),
            step=step,
            steps=seen.steps,
            epoch=main.whole("octoscale_epoch"),
            loss=sum(losses.values()) if losses else None,
            images_per_second=speed,
            eta_seconds=_eta(step, seen.steps, speed, samples, main.one("octoscale_steps_total")),
            goodput_ratio=main.one("octoscale_goodput_ratio"),
            wall_seconds=main.by("octoscale_wall_seconds_total", "state"),
            world_size=main.whole("octoscale_world_size"),
            attempt=main.whole("octoscale_attempt"),
            restarts=main.whole("octoscale_restarts_total"),
            steps_lost=main.whole("octoscale_steps_lost_total"),
            steps_replayed=main.whole("octoscale_steps_replayed_total"),
            recovery_seconds=main.one("octoscale_recovery_seconds"),
            checkpoint_age_seconds=None if committed is None else max(0.0, now - committed),
            learning_rate=main.one("octoscale_learning_rate"),
            gradient_norm=main.one("octoscale_gradient_norm"),
            embedding_norm=main.one("octoscale_embedding_norm"),
            embedding_norm_deviation=main.one("octoscale_embedding_norm_deviation"),
            embedding_effective_rank=main.one("octoscale_embedding_effective_rank"),
            terms={term: _term(main, term) for term in losses},
            accuracy=_accuracy(scrapes),
            ranks=tuple(ranks),
        )

    def _rank(self, now: float, expected: int | None, scrape: Scrape, series: _Series) -> Rank:
        if scrape.fault is not None:
            return Rank(expected, scrape.address, scrape.fault)
        number = series.label("octoscale_world_size", "rank") or series.label("octoscale_step", "rank")
        if number is None or not number.isdecimal():
            return Rank(expected, scrape.address, "it is no rank of a run")
        rank = int(number)
        phases = series.by("octoscale_step_phase_seconds_sum", "phase")
        _, grown = self._growth_of(f"phases {rank}").take(now, phases)
        if sum(grown.values()) <= 0:
            grown = phases
        whole = sum(grown.values())
        samples = series.one("octoscale_samples_total")
        return Rank(
            rank=rank,
            address=scrape.address,
            fault=None,
            step=series.whole("octoscale_step"),
            images_per_second=None if samples is None else self._speed(now, str(rank), samples, series),
            queue_depth=series.one("octoscale_loader_queue_depth"),
            phases={phase: seconds / whole for phase, seconds in grown.items()} if whole > 0 else {},
            device_memory_bytes=series.one("octoscale_device_memory_bytes", kind="allocated"),
        )

    def _speed(self, now: float, whose: str, samples: float, series: _Series) -> float | None:
        """Images per second."""
        seconds, grown = self._growth_of(f"samples {whose}").take(now, {"samples": samples})
        if seconds is None:
            phases = series.by("octoscale_step_phase_seconds_sum", "phase")
            seconds = (series.one("octoscale_step_seconds_sum") or 0.0) + sum(
                phases.get(phase, 0.0) for phase in ("data_wait", *_BETWEEN)
            )
        return grown["samples"] / seconds if seconds > 0 else None

    def _growth_of(self, what: str) -> _Growth:
        return self._growth.setdefault(what, _Growth())


def _eta(
    step: int | None, steps: int | None, speed: float | None, samples: float | None, done: float | None
) -> float | None:
    if step is None or steps is None or not speed or not samples or not done:
        return None
    return max(0, steps - step) * (samples / done) / speed


def _term(series: _Series, term: str) -> Term:
    return Term(
        loss=series.one("octoscale_loss", term=term),
        active_ratio=series.one("octoscale_triplet_active_ratio", term=term),
        inverted_ratio=series.one("octoscale_triplet_inverted_ratio", term=term),
        positive_distance=series.one("octoscale_positive_distance", term=term),
        negative_distance=series.one("octoscale_negative_distance", term=term),
        largest_hub_anchors=series.one("octoscale_largest_hub_anchors", term=term),
    )


def _accuracy(scrapes: list[Scrape]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for scrape in scrapes:
        for sample in scrape.samples:
            if sample.name == "octoscale_evaluation_accuracy_ratio":
                found.setdefault(sample.labels.get("mode", ""), {})[sample.labels.get("resolution", "")] = sample.value
    return found
