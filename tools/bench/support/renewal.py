"""Goodput of a run that commits every so often and fails now and then: simulated, and in closed form.

Time passes in segments: T seconds of steps, then a commit that stalls them for C. Failures are exponential with mean
time M between them, and may strike at any moment: in steps, in a commit, in the recovery from another failure.
A failure costs a recovery of R seconds and everything since the last commit. Goodput = T · commits ÷ wall time.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Faults:
    """A machine and what a commit costs it; all in seconds.

    Attributes:
        mtbf: M, mean time between failures of the whole run.
        recovery: R, from a failure to the first step after it, without the replay of steps.
        commit: C, for which a commit stalls the steps.
    """

    mtbf: float
    recovery: float
    commit: float


@dataclass(frozen=True)
class Goodput:
    """The share of the wall time that went into steps that stayed, and where the rest went (shares of the same).

    Attributes:
        goodput, commits, replay, recovery: they add up to 1. `replay` is all that a failure undid, a broken commit
            included.
        standard_error: of `goodput`, from the spread of the segments; 0 in closed form.
        failures: in the simulation; 0 in closed form.
    """

    goodput: float
    commits: float
    replay: float
    recovery: float
    standard_error: float = 0.0
    failures: int = 0


def simulate(faults: Faults, interval: float, *, segments: int, seed: int) -> Goodput:
    """Run `segments` segments to their ends through seeded failures; every one is one sample of the renewal process.

    Failures are memoryless, so each attempt at a segment and each recovery draws its own next failure. Vectorised: in
    each round the segments that are not done make one more attempt.

    Args:
        interval: T, seconds of steps between commits.
    """
    rng = np.random.default_rng(seed)
    length = interval + faults.commit
    replay, recovery = np.zeros(segments), np.zeros(segments)
    failures = 0
    open_segments = np.arange(segments)
    while len(open_segments):
        failed_at = rng.exponential(faults.mtbf, len(open_segments))
        failed = failed_at < length
        open_segments = open_segments[failed]
        failures += len(open_segments)
        replay[open_segments] += failed_at[failed]
        recovery[open_segments] += _recoveries(faults, len(open_segments), rng)
    wall = length + replay + recovery
    mean = float(wall.mean())
    # Delta method: goodput is T ÷ mean wall time.
    error = interval * float(wall.std(ddof=1)) / math.sqrt(segments) / mean**2
    return Goodput(
        interval / mean,
        faults.commit / mean,
        float(replay.mean()) / mean,
        float(recovery.mean()) / mean,
        error,
        failures,
    )


def _recoveries(faults: Faults, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Seconds from each failure to the first step after it, where a recovery that fails begins anew: float [count]."""
    seconds = np.zeros(count)
    waiting = np.arange(count)
    while len(waiting):
        failed_at = rng.exponential(faults.mtbf, len(waiting))
        failed = failed_at < faults.recovery
        seconds[waiting[~failed]] += faults.recovery
        waiting = waiting[failed]
        seconds[waiting] += failed_at[failed]
    return seconds


def expected(faults: Faults, interval: float) -> Goodput:
    """The exact mean of the same process (Daly 2006, eq. 13 and 14): wall time per segment M e^{R/M} (e^{(T+C)/M} − 1).

    A segment of length L = T + C fails N = e^{L/M} − 1 times on average; a recovery takes M (e^{R/M} − 1).
    """
    mtbf, length = faults.mtbf, interval + faults.commit
    failures = math.expm1(length / mtbf)
    wall = mtbf * math.exp(faults.recovery / mtbf) * failures
    recovery = failures * mtbf * math.expm1(faults.recovery / mtbf)
    return Goodput(interval / wall, faults.commit / wall, (wall - recovery - length) / wall, recovery / wall)


def young_daly(faults: Faults) -> float:
    """√(2 M C), Young's optimum: seconds of steps between commits."""
    return math.sqrt(2 * faults.mtbf * faults.commit)


def young_daly_waste(faults: Faults, interval: float) -> float:
    """First order: a commit per interval, half an interval and a recovery per failure: C/T + (T/2 + R)/M."""
    return faults.commit / interval + (interval / 2 + faults.recovery) / faults.mtbf


def best_interval(faults: Faults) -> float:
    """The interval of the highest exact goodput: where 1 − T/M = e^{−(T + C)/M}, found by bisection.

    Recovery shifts no optimum. There is always one, between 0 and M.
    """
    low, high = 0.0, faults.mtbf
    for _ in range(200):
        middle = (low + high) / 2
        if 1 - middle / faults.mtbf > math.exp(-(middle + faults.commit) / faults.mtbf):
            low = middle
        else:
            high = middle
    return (low + high) / 2
