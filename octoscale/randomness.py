"""Counter-based random numbers: a pure function of (seed, epoch, sample id), never of a worker."""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniform(stream: str, seed: int, epoch: int, sample_ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number in [0, 1) per sample.

    Args:
        stream: what the numbers are for, e.g. ``"flip"``: streams are independent of each other.
        seed: the run's seed.
        epoch: the epoch, from 0.
        sample_ids: int64 [n], rows of the index.

    Returns:
        float64 [n]; the same on any rank, worker, device and batch composition.
    """
    with np.errstate(over="ignore"):
        state = np.zeros(1, np.uint64)
        for word in (*stream.encode(), seed & 0xFFFFFFFFFFFFFFFF, epoch):
            state = _mix((state ^ np.uint64(word)) + _GOLDEN)
        bits = _mix(_mix(sample_ids.astype(np.uint64) + state) + _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
