"""What each step gave: into the log, to whoever listens, and into a file beside each commit."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict

from octoscale.data.loader import Batch
from octoscale.data.storage import Store
from octoscale.measured import Measured, StepLine
from octoscale.telemetry.output import Tell
from octoscale.telemetry.pace import Pace
from octoscale.telemetry.progress import step_line

logger = logging.getLogger(__name__)


class Journal:
    """Keeps the lines since the last commit, and writes them as one object: storage needs no append."""

    def __init__(self, store: Store, measured: Measured, pace: Pace, tell: Tell, *, log_every_steps: int) -> None:
        self._store = store
        self._measured = measured
        self._pace = pace
        self._tell = tell
        self._log_every_steps = log_every_steps
        self._lines: list[StepLine] = []

    def step(self, line: StepLine, batch: Batch) -> None:
        """Record one step, and say what stands in for planned images of this rank that cannot be had."""
        self._lines.append(line)
        self._measured.step(line, batch)
        result = line.result
        figures = self._pace.step(
            line.step,
            epoch=line.epoch,
            loss=result.loss,
            active_ratio=sum(term.active_fraction for term in result.terms.values()) / len(result.terms),
            learning_rate=line.learning_rate,
            step_seconds=line.step_seconds,
            data_wait_seconds=line.data_wait_seconds,
        )
        self._tell("step", **asdict(figures))
        if line.step % self._log_every_steps == 0:
            logger.info("%s", step_line(figures))
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

    def committed(self, step: int, seconds: float, size_bytes: int) -> None:
        """The state after `step` is safe. From any thread."""
        self._measured.committed(seconds, size_bytes)
        self._pace.committed()
        self._tell("commit", step=step, seconds=seconds, bytes=size_bytes)
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
