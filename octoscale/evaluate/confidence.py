"""Confidence intervals of verification figures, by the bootstrap.

Genuine and impostor pairs are drawn anew with replacement, each as many as there are, and every figure is computed
for each resample; the interval holds the middle 95 % of them. The thresholds of the cross-validation are not fitted
anew. Pairs that share an image or a person count as independent, so intervals are rather too narrow.
"""

import numpy as np
from numpy.typing import NDArray

from octoscale.evaluate.curves import fewest_impostors

_QUANTILES = (0.025, 0.975)
_SEED = 0
# Numbers in one array at a time.
_BLOCK = 2**21


def resamples(same: NDArray[np.bool_], count: int) -> NDArray[np.int16]:
    """How often each pair is in each resample: int16 [count, n]; a function of `same` and `count` alone."""
    generator = np.random.default_rng(_SEED)
    weights = np.zeros((count, len(same)), np.int16)
    for kind in (same, ~same):
        rows = np.flatnonzero(kind)
        for sample in weights if len(rows) else ():
            sample[rows] = np.bincount(generator.integers(len(rows), size=len(rows)), minlength=len(rows))
    return weights


def confidence_intervals(
    distances: NDArray[np.float64],
    same: NDArray[np.bool_],
    right: NDArray[np.bool_],
    fold: NDArray[np.int64],
    far: tuple[float, ...],
    weights: NDArray[np.int16],
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the accuracy, the equal error rate, the area under the ROC and each measurable TAR.

    Args:
        distances: float64 [n].
        same: bool [n].
        right, fold: see `octoscale.evaluate.verification.decisions`.
        far: false accept rates.
        weights: see `resamples`.

    Returns:
        By ``accuracy``, ``equal_error_rate``, ``area_under_curve`` and ``tar_at_far_0.01``; empty without resamples.
    """
    if not len(weights):
        return {}
    # Each fold counts the same, whatever its size.
    share = 1 / np.bincount(fold)[fold]
    values, which = np.unique(distances, return_inverse=True)
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(len(values)))
    impostors = int(np.count_nonzero(~same))
    rates = [rate for rate in far if impostors >= fewest_impostors(rate)]
    figures: list[NDArray[np.float64]] = []
    for block in np.array_split(weights, -(-weights.size // _BLOCK)):
        accuracy = (block @ (share * right)) / (block @ share)
        accepted = [_accepted(block * kind, order, starts) for kind in (same, ~same)]
        true_accepts, false_accepts = accepted[0] / np.count_nonzero(same), accepted[1] / impostors
        tars = [_at(true_accepts, accepted[1] <= int(rate * impostors + 1e-6)) for rate in rates]
        area = (np.diff(false_accepts) * (true_accepts[:, 1:] + true_accepts[:, :-1]) / 2).sum(1)
        figures.append(np.stack([accuracy, _equal_error_rates(false_accepts, true_accepts), area, *tars]))
    names = ["accuracy", "equal_error_rate", "area_under_curve", *(f"tar_at_far_{rate:g}" for rate in rates)]
    low, high = np.quantile(np.concatenate(figures, axis=1), _QUANTILES, axis=1)
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def _accepted(weights: NDArray[np.int16], order: NDArray[np.intp], starts: NDArray[np.intp]) -> NDArray[np.int64]:
    """How many pairs each threshold accepts, none first: int64 [samples, thresholds + 1]."""
    counts = np.add.reduceat(weights[:, order], starts, axis=1, dtype=np.int64).cumsum(1)
    return np.pad(counts, ((0, 0), (1, 0)))


def _at(rates: NDArray[np.float64], allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The rate at the last allowed threshold of each row; the allowed ones come first."""
    found: NDArray[np.float64] = rates[np.arange(len(rates)), allowed.sum(1) - 1]
    return found


def _equal_error_rates(false_accepts: NDArray[np.float64], true_accepts: NDArray[np.float64]) -> NDArray[np.float64]:
    """As `octoscale.evaluate.curves.equal_error_rate`, of each row."""
    excess = false_accepts + true_accepts - 1
    rows, right = np.arange(len(excess)), np.argmax(excess >= 0, axis=1)
    below, above = excess[rows, right - 1], excess[rows, right]
    low, high = false_accepts[rows, right - 1], false_accepts[rows, right]
    rates: NDArray[np.float64] = low - below / (above - below) * (high - low)
    return rates
