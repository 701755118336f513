"""Goodput: the share of a run's wall time that advanced the training, over all attempts.

Every second since the run was first started belongs to one state:

- *startup*: from the start of an attempt to its first step;
- *data_wait*, *checkpoint*, *evaluate*: the training stood still for it;
- *lost*: from the commit that an attempt goes on from until that attempt began: work that is done again, and the time
  in which nothing ran;
- *productive*: the rest.

The ledger travels with each commit, so what an attempt did after its last one is lost to the ledger too, as it is to
the training.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from octoscale.telemetry.metrics import Metrics

State = Literal["productive", "startup", "data_wait", "checkpoint", "evaluate", "lost"]
_STOPS: tuple[State, ...] = ("startup", "data_wait", "checkpoint", "evaluate")


class WallLedger:
    """Wall time by state: that of earlier attempts, and this one's."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        *,
        began: float | None = None,
        attempt: int = 1,
    ) -> None:
        """`began`: when the attempt did, by `clock`; None: now. `attempt`: its number, from 1."""
        self._metrics = metrics
        self._clock = clock
        self._began = clock() if began is None else began
        self._earlier: dict[str, float] = {}
        self._stopped: dict[str, float] = dict.fromkeys(_STOPS, 0.0)
        metrics.set("octoscale_attempt", attempt)
        metrics.raise_to("octoscale_restarts_total", attempt - 1)
        self._running = False

    def go_on(self, committed: Mapping[str, Any] | None) -> None:
        """Go on from the ledger of the commit that is resumed; None: there is none."""
        if committed is not None:
            self._earlier = dict(committed["seconds"])
            # Clocks of two nodes may differ.
            gap = max(0.0, self._began - committed["written_at"])
            self._earlier["lost"] = self._earlier.get("lost", 0.0) + gap

    def stopped(self, state: State, seconds: float) -> None:
        """The training stood still for so long, until now."""
        self._stopped[state] += seconds
        self.show()

    def started(self) -> None:
        """A step begins: before the first one, whatever was not accounted for was startup."""
        if not self._running:
            self._stopped["startup"] = self._clock() - self._began - sum(self._stopped.values())
            self._running = True

    def seconds(self) -> dict[str, float]:
        """By state, over all attempts, until now."""
        rest = self._clock() - self._began - sum(self._stopped.values())
        now = {**self._stopped, "productive" if self._running else "startup": rest}
        states = self._earlier.keys() | now.keys()
        return {state: self._earlier.get(state, 0.0) + now.get(state, 0.0) for state in sorted(states)}

    def record(self) -> dict[str, Any]:
        """What is committed."""
        return {"seconds": self.seconds(), "written_at": self._clock()}

    def show(self) -> None:
        """Into the metrics."""
        seconds = self.seconds()
        for state, total in seconds.items():
            self._metrics.raise_to("octoscale_wall_seconds_total", total, state=state)
        if (whole := sum(seconds.values())) > 0:
            self._metrics.set("octoscale_goodput_ratio", seconds.get("productive", 0.0) / whole)
