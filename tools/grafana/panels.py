"""Panels and their queries, and the panels that several dashboards have.

A query aggregates away `instance`, so that a line goes on over a restart of the run, whose ranks serve other ports.
"""

from dataclasses import dataclass
from typing import Literal

# A query and the legend of its series.
Query = tuple[str, str]
Kind = Literal["timeseries", "stat", "table"]

GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        text: what it shows, and what good and bad look like.
        unit: one of Grafana's.
        color: below the first threshold.
        thresholds: from each value on, its colour.
        stack: how series are stacked; None: they are not.
        width, height: in cells of Grafana's grid of 24 columns.
    """

    title: str
    text: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    color: str = GREEN
    thresholds: tuple[tuple[float, str], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    stack: Literal["normal", "percent"] | None = None
    width: int = 8
    height: int = 8


@dataclass(frozen=True)
class Dashboard:
    """Panels in titled rows. The file is named after `uid`."""

    uid: str
    title: str
    text: str
    sections: tuple[tuple[str, tuple[Panel, ...]], ...]


def stat(
    title: str, text: str, unit: str, query: str, *, color: str = BLUE, thresholds: tuple[tuple[float, str], ...] = ()
) -> Panel:
    """One number."""
    return Panel(title, text, unit, ((query, ""),), "stat", color, thresholds, width=4, height=4)


def job(metric: str, *labels: str) -> str:
    """A gauge, or a counter's total, that is of the whole run: rank 0 tells it."""
    return f'max by ({", ".join(labels)}) ({metric}{{run="$run", rank="0"}})'


def ranks(metric: str, *labels: str) -> str:
    """The same of each chosen rank."""
    return f'max by ({", ".join(("rank", *labels))}) ({metric}{{run="$run", rank=~"$rank"}})'


def rate(metric: str, *labels: str, only: str = "") -> str:
    """How fast a counter goes on in a second, over all ranks; `only`: a further condition."""
    condition = f'run="$run", {only}' if only else 'run="$run"'
    return f"sum by ({', '.join(labels)}) (rate({metric}{{{condition}}}[$__rate_interval]))"


def grown(metric: str, *labels: str) -> str:
    """By how much a counter has gone on in the time shown, over all ranks."""
    return f'sum by ({", ".join(labels)}) (increase({metric}{{run="$run"}}[$__range]))'


def quantile(share: float, metric: str, *labels: str) -> str:
    """A quantile of a histogram, over all ranks."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', 'le', *labels)})"


COMMIT_AGE = f"time() - {job('octoscale_checkpoint_last_committed_timestamp_seconds')}"

GOODPUT = stat(
    "Goodput",
    "Share of the wall time since the run was first started that advanced the training. Good: above 90 %. Bad: below "
    "70 %; `Wall time by state` says what the rest went into.",
    "percentunit", job("octoscale_goodput_ratio"), color=RED, thresholds=((0.7, ORANGE), (0.9, GREEN)),
)  # fmt: skip
SINCE_COMMIT = stat(
    "Since the last commit",
    "What would have to be done again if the run died now. Good: less than the configured interval. Bad: several "
    "intervals, which means that commits fail or hang.",
    "s", COMMIT_AGE, color=GREEN, thresholds=((1800, ORANGE), (3600, RED)),
)  # fmt: skip
RANKS = stat(
    "Ranks",
    "Ranks of this attempt. Good: as many as were asked for. Fewer: an elastic run has gone on without some.",
    "none", job("octoscale_world_size"),
)  # fmt: skip
WALL = Panel(
    "Wall time by state",
    "Where every second since the first start went, over all attempts. Good: nearly all productive. Bad: a growing "
    "share of data_wait (storage or decoding is too slow), checkpoint (commits hold the training up), or of what "
    "faults cost.",
    "s", ((job("octoscale_wall_seconds_total", "state"), "{{state}}"),), stack="percent", minimum=0,
)  # fmt: skip
LEARNING_RATE = Panel(
    "Learning rate",
    "Of the last step. Good: the schedule that was configured. Bad: still at its peak while the gradient norm grows.",
    "none", ((job("octoscale_learning_rate"), "learning rate"),), minimum=0,
)  # fmt: skip
PHASES = Panel(
    "Phases of a step",
    "Mean over the ranks, stacked. Good: embed and second_pass are nearly all. Bad: data_wait (the data plane is "
    "slow), or exchange (a rank is late, or the network is).",
    "s", ((job("octoscale_job_phase_seconds_mean", "phase"), "{{phase}}"),), stack="normal", minimum=0,
)  # fmt: skip
