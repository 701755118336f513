"""Confidence intervals of verification figures, by the bootstrap.

Genuine and impostor pairs are drawn anew with replacement, each as many as there are, and every figure is computed
for each resample; the interval holds the middle 95 % of them. The thresholds of the cross-validation are not fitted
anew. Pairs that share an image or a person count as independent, so intervals are rather too narrow.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octoscale.evaluate.curves import fewest_impostors

_QUANTILES = (0.025, 0.975)
_SEED = 0
# Numbers in one array at a time.
_BLOCK = 2**21


def resamples(same: NDArray[np.bool_], count: int) -> Tensor:
    """How often each pair is in each resample: int16 [count, n]; a function of `same` and `count` alone."""
    generator = np.random.default_rng(_SEED)
    weights = np.zeros((count, len(same)), np.int16)
    for kind in (same, ~same):
        rows = np.flatnonzero(kind)
        for sample in weights if len(rows) else ():
            sample[rows] = np.bincount(generator.integers(len(rows), size=len(rows)), minlength=len(rows))
    return torch.from_numpy(weights)


def confidence_intervals(
    distances: NDArray[np.float64],
    same: NDArray[np.bool_],
    right: NDArray[np.bool_],
    fold: NDArray[np.int64],
    far: tuple[float, ...],
    weights: Tensor,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the accuracy, the equal error rate, the area under the ROC and each measurable TAR.

    Args:
        distances: float64 [n].
        same: bool [n].
        right, fold: see `octoscale.evaluate.verification.decisions`.
        far: false accept rates.
        weights: see `resamples`; computed with on the device that they are on.

    Returns:
        By ``accuracy``, ``equal_error_rate``, ``area_under_curve`` and ``tar_at_far_0.01``; empty without resamples.
    """
    if not len(weights):
        return {}
    device = weights.device
    # Each fold counts the same, whatever its size.
    share = torch.from_numpy(1 / np.bincount(fold)[fold]).to(device)
    rightly = torch.from_numpy(right).to(device) * share
    order = np.argsort(distances, kind="stable")
    # Of equal distances the last: what a threshold accepts, it accepts of all of them.
    ends = np.flatnonzero(np.diff(distances[order], append=np.inf) > 0)
    columns, last = torch.from_numpy(order).to(device), torch.from_numpy(ends).to(device)
    genuine = torch.from_numpy(same[order]).to(device)
    impostors = int(np.count_nonzero(~same))
    rates = [rate for rate in far if impostors >= fewest_impostors(rate)]
    figures = []
    for block in weights.split(max(1, _BLOCK // weights.shape[1])):
        ordered = block[:, columns]
        true_counts = _accepted(ordered * genuine, last)
        false_counts = _accepted(ordered, last) - true_counts
        true_accepts, false_accepts = true_counts.double() / int(same.sum()), false_counts.double() / impostors
        weight = block.double()
        figures.append(
            torch.stack(
                [
                    (weight @ rightly) / (weight @ share),
                    _equal_error_rates(false_accepts, true_accepts),
                    torch.trapezoid(true_accepts, false_accepts, dim=1),
                    # The last of the allowed thresholds, which come first.
                    *(
                        true_accepts.gather(1, _last(false_counts <= int(rate * impostors + 1e-6))).squeeze(1)
                        for rate in rates
                    ),
                ]
            )
        )
    names = ["accuracy", "equal_error_rate", "area_under_curve", *(f"tar_at_far_{rate:g}" for rate in rates)]
    low, high = np.quantile(torch.cat(figures, dim=1).cpu().numpy(), _QUANTILES, axis=1)
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def _accepted(weights: Tensor, last: Tensor) -> Tensor:
    """How many pairs each threshold accepts, none first: int32 [samples, thresholds + 1]."""
    counts = weights.cumsum(1, dtype=torch.int32)[:, last]
    return torch.nn.functional.pad(counts, (1, 0))


def _last(allowed: Tensor) -> Tensor:
    """int64 [samples, 1]: the place of the last true value of each row, where the true ones come first."""
    return allowed.sum(1, keepdim=True) - 1


def _equal_error_rates(false_accepts: Tensor, true_accepts: Tensor) -> Tensor:
    """As `octoscale.evaluate.curves.equal_error_rate`, of each row."""
    excess = false_accepts + true_accepts - 1  # ascends from −1 to 1
    left = _last(excess < 0)
    (low, high), (below, above) = (
        (values.gather(1, left), values.gather(1, left + 1)) for values in (false_accepts, excess)
    )
    return (low - below / (above - below) * (high - low)).squeeze(1)
