"""Where the time of a step goes, without waiting for the device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class PhaseClock:
    """Adds up the time of named phases on one device.

    A phase inside another takes its time away from the outer one. On CUDA the times are the device's, between events
    in its queue, so that measuring never waits for the device; on a CPU those of the host.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._current = ""
        # What begins at each moment; "" is no phase.
        self._moments: list[tuple[str, float | torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """The work inside the block is of `phase`."""
        before, self._current = self._current, phase
        self._mark()
        try:
            yield
        finally:
            self._current = before
            self._mark()

    def seconds(self) -> dict[str, float]:
        """Of each phase so far. On CUDA it waits for the last one: ask when the step's result is here."""
        seconds: dict[str, float] = {}
        if not self._moments:
            return seconds
        last = self._moments[-1][1]
        if not isinstance(last, float):
            last.synchronize()
        for (phase, began), (_, ended) in zip(self._moments, self._moments[1:], strict=False):
            if phase:
                seconds[phase] = seconds.get(phase, 0.0) + _between(began, ended)
        return seconds

    def _mark(self) -> None:
        if not self._cuda:
            self._moments.append((self._current, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._moments.append((self._current, event))


def _between(began: float | torch.cuda.Event, ended: float | torch.cuda.Event) -> float:
    if isinstance(began, float):
        assert isinstance(ended, float)
        return ended - began
    assert not isinstance(ended, float)
    return float(began.elapsed_time(ended)) / 1000
