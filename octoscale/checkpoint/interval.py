"""When to commit: at the same steps on every rank."""

import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Callable

from octoscale.checkpoint.attempts import Claim
from octoscale.checkpoint.config import CheckpointConfig
from octoscale.distributed.world import World

logger = logging.getLogger(__name__)

# Between failures, while the run has seen none.
PRIOR_SECONDS_BETWEEN_FAILURES = 24 * 3600.0
_REMEMBERED = 64


def seconds_between_failures(attempt: Claim, running_seconds: float) -> float:
    """The mean over all attempts of the run; `running_seconds` are of this one."""
    trained = attempt.trained_seconds + running_seconds
    if attempt.failures == 0:
        return max(PRIOR_SECONDS_BETWEEN_FAILURES, trained)
    return trained / attempt.failures


def young_daly_seconds(between_failures: float, cost: float) -> float:
    """The interval at which commits and lost work cost least together: √(2 · MTBF · cost)."""
    return math.sqrt(2 * between_failures * cost)


class CommitInterval:
    """Decides after each step; told of each commit.

    With a number of steps it is their multiples. Seconds become a number of steps by rank 0's clock, which the ranks
    agree on in log₂(steps) messages between two commits: each time half of the steps that seem left are taken.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        world: World,
        attempt: Claim,
        step: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._world = world
        self._attempt = attempt
        self._clock = clock
        self._began = self._last_commit = self._last_step = clock()
        self._look_again_at = step + 1
        # Seconds of the last steps beside no commit, and of what commits cost: their stalls and slower steps.
        self._steps: deque[float] = deque(maxlen=_REMEMBERED)
        self._costs: deque[float] = deque(maxlen=_REMEMBERED // 8)
        self._told: float | None = None

    def due(self, step: int, *, under_way: bool) -> bool:
        """Whether to commit after `step`. Called after each step, on all ranks; `under_way`: beside a commit."""
        every = self._config.every_steps
        if isinstance(every, int):
            return step % every == 0
        self._measure(under_way)
        if step < self._look_again_at:
            return False
        left: int = self._world.broadcast(self._steps_left())
        self._look_again_at = step + max(1, left // 2)
        return left <= 0

    def committed(self, step: int, stall_seconds: float) -> None:
        """A commit of `step` was handed over, or made, in `stall_seconds`."""
        self._last_commit = self._last_step = self._clock()
        self._costs.append(stall_seconds)
        self._look_again_at = step + 1

    def _measure(self, under_way: bool) -> None:
        now = self._clock()
        seconds, self._last_step = now - self._last_step, now
        if not under_way:
            self._steps.append(seconds)
        elif self._steps and self._costs:
            self._costs[-1] += max(0.0, seconds - statistics.median(self._steps))

    def _steps_left(self) -> int:
        # A commit so long that no step was without one: its steps are all there is.
        step_seconds = statistics.median(self._steps) if self._steps else self._clock() - self._last_commit
        target = self._config.every_seconds
        if target is None:
            target = self._optimum(step_seconds)
        left = target - (self._clock() - self._last_commit)
        return round(left / max(step_seconds, 1e-6))

    def _optimum(self, step_seconds: float) -> float:
        # Before the first commit, as if it cost a step.
        cost = statistics.median(self._costs) if self._costs else step_seconds
        between = seconds_between_failures(self._attempt, self._clock() - self._began)
        target = young_daly_seconds(between, cost)
        if self._costs and (self._told is None or not self._told / 2 < target < self._told * 2):
            self._told = target
            logger.info(
                "commits   every %.3g s: one costs %.3g s, and %.3g s lie between failures", target, cost, between
            )
        return target
