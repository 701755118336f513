"""Prometheus metrics of one rank, and the endpoint that serves them."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EADDRINUSE

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server

from octoscale.errors import OctoscaleError

# From a tiny network on a laptop to a large one at a large batch.
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The metrics of one rank, in a registry of their own. docs/metrics.md is their table."""

    def __init__(self, *, run: str, rank: int, version: str) -> None:
        self.registry = CollectorRegistry()
        labels, values = ("run", "rank"), (run, str(rank))

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry).labels(*values)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry).labels(*values)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, labels, buckets=_SECONDS, registry=self.registry).labels(*values)

        def by_term(name: str, text: str) -> Gauge:
            return Gauge(name, text, (*labels, "term"), registry=self.registry)

        self._values = values
        self.step_seconds = histogram("octoscale_step_seconds", "Wall time of an optimizer step")
        self.data_wait_seconds = histogram("octoscale_data_wait_seconds", "Wait for the batch of a step")
        self.evaluation_seconds = histogram("octoscale_evaluation_seconds", "Wall time of an evaluation")
        checkpoint_seconds = Histogram(
            "octoscale_checkpoint_duration_seconds", "Wall time of a commit, and of the training's wait for it",
            (*labels, "stage"), buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.commit_seconds = checkpoint_seconds.labels(*values, "commit")
        self.commit_stall_seconds = checkpoint_seconds.labels(*values, "stall")
        self.steps = counter("octoscale_steps_total", "Optimizer steps done by this process")
        self.steps_skipped = counter("octoscale_steps_skipped_total", "Steps skipped because fp16 gradients overflowed")
        self.samples = counter("octoscale_samples_total", "High-resolution images this rank trained on")
        self.quarantined_samples = counter(
            "octoscale_quarantined_samples_total", "Planned images of this rank that another one stood in for"
        )
        self.checkpoints_damaged = counter("octoscale_checkpoint_corrupt_total", "Commits found damaged when resuming")
        self.loader_queue_depth = gauge("octoscale_loader_queue_depth", "Batches ready when the last one was taken")
        self.step = gauge("octoscale_step", "Optimizer step of the run, over all attempts")
        self.epoch = gauge("octoscale_epoch", "Epoch of the run, from 0")
        self.learning_rate = gauge("octoscale_learning_rate", "Learning rate of the last step")
        self.gradient_norm = gauge("octoscale_gradient_norm", "Global gradient norm before clipping")
        self.embedding_norm = gauge("octoscale_embedding_norm", "Mean norm of the embeddings of the global batch")
        self.last_commit = gauge(
            "octoscale_checkpoint_last_committed_timestamp_seconds", "Unix time of the last commit"
        )
        self._loss = by_term("octoscale_loss", "Octuplet loss by term, mean over the global batch")
        self._active = by_term("octoscale_triplet_active_ratio", "Anchors whose triplet is inside the margin")
        self._positive = by_term("octoscale_positive_distance", "Mean distance anchor to positive")
        self._negative = by_term("octoscale_negative_distance", "Mean distance anchor to negative")
        self._accuracy = Gauge(
            "octoscale_evaluation_accuracy_ratio",
            "10-fold verification accuracy",
            (*labels, "mode", "resolution"),
            registry=self.registry,
        )
        Info("octoscale_build", "Versions", labels, registry=self.registry).labels(*values).info({"version": version})

    def record_term(
        self, term: str, *, loss: float, active: float, positive_distance: float, negative_distance: float
    ) -> None:
        """What one term of the loss gave in a step."""
        self._loss.labels(*self._values, term).set(loss)
        self._active.labels(*self._values, term).set(active)
        self._positive.labels(*self._values, term).set(positive_distance)
        self._negative.labels(*self._values, term).set(negative_distance)

    def record_accuracy(self, mode: str, resolution: int, accuracy: float) -> None:
        """Accuracy, 0–1, of one evaluation mode at one resolution."""
        self._accuracy.labels(*self._values, mode, str(resolution)).set(accuracy)


@contextmanager
def served(metrics: Metrics, *, host: str, port: int) -> Iterator[str]:
    """Serve the metrics over HTTP while the block runs; yields the address.

    Raises:
        OctoscaleError: the port is taken, or the host is none of this machine's.
    """
    try:
        server, thread = start_http_server(port, host, registry=metrics.registry)
    except (OSError, OverflowError, UnicodeError) as error:  # the last two: a port, a host that cannot be
        if isinstance(error, OSError) and error.errno == EADDRINUSE:
            raise OctoscaleError(
                f"metrics port {port} on {host} is in use; choose another telemetry.metrics_port, or 0 for any free one"
            ) from error
        raise OctoscaleError(
            f"cannot serve metrics on {host}:{port}: {error}; check telemetry.metrics_host and metrics_port"
        ) from error
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
