"""How fast a run is: from its last steps, with everything between them."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_REMEMBERED = 128


@dataclass(frozen=True)
class Figures:
    """What is told of a run after a step.

    Attributes:
        steps: of the whole run, about where it is counted in epochs.
        active_ratio: anchors whose triplet is inside the margin, mean over the terms.
        images_per_second: high-resolution images of all ranks, over the last steps; commits and evaluations between
            them count.
        data_wait_ratio: share of that time in which rank 0 waited for its batch.
        eta_seconds: until the last step, at that speed.
        checkpoint_age_seconds: since the last commit of this process; None before.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    active_ratio: float
    learning_rate: float
    step_seconds: float
    images_per_second: float
    data_wait_ratio: float
    eta_seconds: float
    checkpoint_age_seconds: float | None


class Pace:
    """Measures the last steps of this process.

    Args:
        steps: of the whole run.
        clock: in seconds.
    """

    def __init__(self, *, global_batch_size: int, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._global_batch_size = global_batch_size
        self._steps = steps
        self._clock = clock
        # When each step ended; before the first one, when it began.
        self._ends: deque[float] = deque(maxlen=_REMEMBERED + 1)
        self._waits: deque[float] = deque(maxlen=_REMEMBERED)
        self._committed: float | None = None

    def committed(self) -> None:
        """A state is safe. From any thread."""
        self._committed = self._clock()

    def step(
        self, step: int, *, epoch: int, loss: float, active_ratio: float, learning_rate: float,
        step_seconds: float, data_wait_seconds: float,
    ) -> Figures:  # fmt: skip
        """The figures after `step`, which has just ended."""
        now = self._clock()
        if not self._ends:
            self._ends.append(now - step_seconds - data_wait_seconds)
        self._ends.append(now)
        self._waits.append(data_wait_seconds)
        elapsed = max(now - self._ends[0], 1e-9)
        return Figures(
            step=step,
            steps=self._steps,
            epoch=epoch,
            loss=loss,
            active_ratio=active_ratio,
            learning_rate=learning_rate,
            step_seconds=step_seconds,
            images_per_second=len(self._waits) * self._global_batch_size / elapsed,
            data_wait_ratio=min(1.0, sum(self._waits) / elapsed),
            eta_seconds=max(0, self._steps - step) * elapsed / len(self._waits),
            checkpoint_age_seconds=None if self._committed is None else now - self._committed,
        )
