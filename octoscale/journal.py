"""What each step gave: into the metrics, the log, the progress bar, and a file beside each commit."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from octoscale.data.loader import Batch
from octoscale.data.storage import Store
from octoscale.step import StepResult, TermMeans
from octoscale.telemetry.metrics import Metrics
from octoscale.telemetry.progress import ShowProgress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepLine:
    """One step of the run, over the global batch. `step` counts from 1."""

    step: int
    epoch: int
    batch: int
    sample_ids_crc32: int
    learning_rate: float
    step_seconds: float
    data_wait_seconds: float
    result: StepResult

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "StepLine":
        terms = {term: TermMeans(**means) for term, means in values["result"]["terms"].items()}
        return cls(**{**values, "result": StepResult(**{**values["result"], "terms": terms})})


class Journal:
    """Keeps the lines since the last commit, and writes them as one object: storage needs no append."""

    def __init__(
        self, store: Store, metrics: Metrics, show: ShowProgress, *, rank_batch_size: int, log_every_steps: int
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._show = show
        self._rank_batch_size = rank_batch_size
        self._log_every_steps = log_every_steps
        self._lines: list[StepLine] = []

    def step(self, line: StepLine) -> None:
        """Record one step."""
        self._lines.append(line)
        self._measure(line)
        result = line.result
        active = sum(term.active_fraction for term in result.terms.values()) / len(result.terms)
        text = f"loss {result.loss:.4f}  active {active:.0%}  {line.step_seconds + line.data_wait_seconds:.2f} s/step"
        self._show(line.step, text)
        if line.step % self._log_every_steps == 0:
            logger.info("step %d  %s  data wait %.2f s", line.step, text, line.data_wait_seconds)

    def _measure(self, line: StepLine) -> None:
        metrics, result = self._metrics, line.result
        metrics.steps.inc()
        metrics.steps_skipped.inc(result.skipped)
        metrics.samples.inc(self._rank_batch_size)
        metrics.step.set(line.step)
        metrics.epoch.set(line.epoch)
        metrics.step_seconds.observe(line.step_seconds)
        metrics.data_wait_seconds.observe(line.data_wait_seconds)
        metrics.learning_rate.set(line.learning_rate)
        metrics.gradient_norm.set(result.gradient_norm)
        metrics.embedding_norm.set(result.embedding_norm)
        for name, term in result.terms.items():
            metrics.record_term(
                name,
                loss=term.loss,
                active=term.active_fraction,
                positive_distance=term.positive_distance,
                negative_distance=term.negative_distance,
            )

    def loaded(self, batch: Batch) -> None:
        """Say what stands in for planned images of this rank that cannot be had."""
        self._metrics.loader_queue_depth.set(batch.queue_depth)
        self._metrics.quarantined_samples.inc(len(batch.substitutions))
        for substitution in batch.substitutions:
            logger.warning(
                "sample %d takes the place of %d: %s",
                substitution.substitute, substitution.sample_id, substitution.cause,
            )  # fmt: skip

    def taken(self, step: int, *, is_main: bool) -> Callable[[], None]:
        """Take the lines up to `step`; what is returned writes them, from any thread.

        It is to be called just before the commit of `step`: after a crash between the two they are replayed.
        """
        lines, self._lines = self._lines, []

        def write() -> None:
            if is_main and lines:
                text = "".join(json.dumps(asdict(line)) + "\n" for line in lines)
                self._store.write(f"steps/{step:08d}.jsonl", text.encode())

        return write

    def stalled(self, seconds: float) -> None:
        """The training waited this long for a commit to be handed over, or made."""
        self._metrics.commit_stall_seconds.observe(seconds)

    def committed(self, step: int, seconds: float) -> None:
        """The state after `step` is safe. From any thread."""
        self._metrics.commit_seconds.observe(seconds)
        self._metrics.last_commit.set(time.time())
        logger.info("committed step %d in %.2f s", step, seconds)


def read_journal(store: Store) -> list[StepLine]:
    """All written steps of a run in order, each once: a step replayed after a fault counts as replayed.

    Those after the newest commit, if any, were trained but lost.
    """
    lines: dict[int, StepLine] = {}
    for name in store.list("steps"):
        for text in store.read(name).decode().splitlines():
            line = StepLine.from_json(json.loads(text))
            lines[line.step] = line
    return [lines[step] for step in sorted(lines)]
