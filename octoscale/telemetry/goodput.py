"""Goodput: the share of a run's wall time that advanced the training, over all attempts.

Every second since the run was first started belongs to one state:

- *startup*: from the start of an attempt to its first step;
- *data_wait*, *checkpoint*, *evaluate*: the training stood still for it;
- *rework*: from the commit that an attempt goes on from until the last sign of life of the attempt before: work that
  is done again;
- *idle*: from that sign until the attempt began: nothing ran;
- *productive*: the rest.

The ledger travels with each commit. What an attempt did after its last one is rework, whatever it was: it is lost to
the training. Without a sign of life all of that time counts as idle.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from octoscale.telemetry.metrics import Metrics

State = Literal["productive", "startup", "data_wait", "checkpoint", "evaluate", "rework", "idle"]
STATES: tuple[State, ...] = get_args(State)
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
        self._last_sign: float | None = None
        self._stopped: dict[str, float] = dict.fromkeys(_STOPS, 0.0)
        metrics.set("octoscale_attempt", attempt)
        metrics.raise_to("octoscale_restarts_total", attempt - 1)
        self._running = False

    def go_on(self, committed: Mapping[str, Any] | None, *, last_sign: float | None = None) -> None:
        """Go on from the ledger of the commit that is resumed; None: there is none.

        Args:
            last_sign: when the attempt before was last known to live; None where that is not known.
        """
        written = last_sign if committed is None else committed["written_at"]
        if written is None:
            return
        # Clocks of two nodes may differ.
        written = min(written, self._began)
        self._last_sign = min(max(written, last_sign or written), self._began)
        if committed is not None:
            self._earlier = dict(committed["seconds"])
            for state, seconds in (("rework", self._last_sign - written), ("idle", self._began - self._last_sign)):
                self._earlier[state] = self._earlier.get(state, 0.0) + seconds

    def stepped(self) -> None:
        """A step is done: with the first one the run has recovered from the end of the attempt before."""
        if self._last_sign is not None:
            self._metrics.set("octoscale_recovery_seconds", max(0.0, self._clock() - self._last_sign))
            self._last_sign = None

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
        return {state: self._earlier.get(state, 0.0) + now.get(state, 0.0) for state in STATES}

    def record(self) -> dict[str, Any]:
        """What is committed."""
        return {"seconds": self.seconds(), "written_at": self._clock()}

    def show(self) -> None:
        """Into the metrics."""
        seconds = self.seconds()
        for state, total in seconds.items():
            self._metrics.raise_to("octoscale_wall_seconds_total", total, state=state)
        if (whole := sum(seconds.values())) > 0:
            self._metrics.set("octoscale_goodput_ratio", seconds["productive"] / whole)
