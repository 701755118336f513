"""The metrics of one rank, and the endpoint that serves them to Prometheus."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EADDRINUSE

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from octoscale.errors import OctoscaleError
from octoscale.telemetry.recorders import Recorder
from octoscale.telemetry.table import METRICS, SECONDS, Metric

logger = logging.getLogger(__name__)


class Metrics:
    """What `METRICS` lists, in a registry of its own. Safe for threads.

    A counter or histogram without labels is there from the start; everything else with its first value.
    """

    def __init__(self, *, run: str, rank: int, recorders: Sequence[Recorder] = ()) -> None:
        """`recorders` are told, step by step, what has changed."""
        self.registry = CollectorRegistry()
        self._values = (run, str(rank))
        self._kinds = {metric.name: metric for metric in METRICS}
        self._series = {metric.name: self._new(metric) for metric in METRICS if rank == 0 or not metric.is_job}
        self._children: dict[tuple[str, tuple[tuple[str, str], ...]], Counter | Gauge | Histogram] = {}
        self._recorders = recorders
        # Commits are told from a thread of their own.
        self._lock = threading.Lock()
        self._changed: dict[str, float] = {}
        self._totals: dict[str, float] = {}
        self._step = 0
        for name, series in self._series.items():
            if not self._kinds[name].labels and not isinstance(series, Gauge):
                series.labels(*self._values)

    def set(self, name: str, value: float, **labels: str) -> None:
        """The value of a gauge now."""
        series = self._child(name, labels)
        assert isinstance(series, Gauge), name
        series.set(value)
        if self._recorders:
            with self._lock:
                self._changed[_key(name, labels)] = value

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Let a counter go on by `amount`."""
        series = self._child(name, labels)
        assert isinstance(series, Counter), name
        series.inc(amount)
        key = _key(name, labels)
        with self._lock:
            self._totals[key] = self._totals.get(key, 0.0) + amount
            if self._recorders and amount:
                self._changed[key] = self._totals[key]

    def raise_to(self, name: str, total: float, **labels: str) -> None:
        """Let a counter go on to what another part of the program has counted."""
        self.add(name, max(0.0, total - self._totals.get(_key(name, labels), 0.0)), **labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """One more observation of a histogram."""
        series = self._child(name, labels)
        assert isinstance(series, Histogram), name
        series.observe(value)
        if self._recorders:
            key = _key(name, labels)
            with self._lock:
                self._changed[key] = self._changed.get(key, 0.0) + value

    def end_step(self, step: int) -> None:
        """Tell the recorders what has changed since the step before: of a histogram, the sum of its observations."""
        self._step = step
        if self._recorders:
            with self._lock:
                changed, self._changed = self._changed, {}
            for recorder in self._recorders:
                recorder.record(step, changed)

    def conclude(self) -> None:
        """Tell the recorders what has changed since the last step, such as an evaluation, as part of it."""
        if self._changed:
            self.end_step(self._step)

    def _child(self, name: str, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        """The series of these labels; kept, since finding it takes longer than changing it."""
        key = (name, tuple(labels.items()))
        child = self._children.get(key)
        if child is None:
            names = self._kinds[name].labels
            assert labels.keys() == set(names), f"{name} has the labels {names}"
            child = self._series[name].labels(*self._values, *(labels[label] for label in names))
            self._children[key] = child
        return child

    def _new(self, metric: Metric) -> Counter | Gauge | Histogram:
        labels = ("run", "rank", *metric.labels)
        if metric.kind == "histogram":
            return Histogram(metric.name, metric.text, labels, buckets=SECONDS, registry=self.registry)
        kind = Counter if metric.kind == "counter" else Gauge
        return kind(metric.name, metric.text, labels, registry=self.registry)


def _key(name: str, labels: dict[str, str]) -> str:
    return "/".join([name, *labels.values()])


@contextmanager
def served(metrics: Metrics, *, host: str, port: int) -> Iterator[int]:
    """Serve the metrics over HTTP while the block runs; yields the port: another one where `port` is in use.

    Each request has a thread that the end of the block does not wait for, so no client can hold the run up.

    Raises:
        OctoscaleError: the host is none of this machine's.
    """
    try:
        try:
            server, thread = start_http_server(port, host, registry=metrics.registry)
        except OSError as error:
            if error.errno != EADDRINUSE:
                raise
            server, thread = start_http_server(0, host, registry=metrics.registry)
            logger.warning("metrics port %d on %s is in use; serving %d instead", port, host, server.server_port)
    except (OSError, OverflowError, UnicodeError) as error:  # the last two: a port, a host that cannot be
        raise OctoscaleError(
            f"cannot serve metrics on {host}:{port}: {error}; check telemetry.metrics_host and metrics_port"
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
