"""Confidence intervals of verification figures, by the bootstrap.

Genuine and impostor pairs are drawn anew with replacement, each as many as there are, and every figure is computed
for each resample; the interval holds the middle 95 % of them. The thresholds of the cross-validation are not fitted
anew. Pairs that share an image or a person count as independent, so intervals are rather too narrow.

Lists of pairs have thousands, templates millions: `confidence_intervals` draws pairs, since the accuracy depends on
each one's fold, and `roc_intervals` draws how many there are between two genuine ones, all that the ROC depends on.
"""

from collections.abc import Iterable

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
    columns = torch.from_numpy(order).to(device)
    # With none accepted as the first of the thresholds.
    last = torch.from_numpy(np.append(0, ends + 1)).to(device)
    genuine = torch.from_numpy(same[order]).to(device)
    figures = []
    for block in weights.split(max(1, _BLOCK // weights.shape[1])):
        ordered = block[:, columns]
        true_counts = _accepted(ordered * genuine)[:, last]
        false_counts = _accepted(ordered)[:, last] - true_counts
        weight = block.double()
        accuracy = (weight @ rightly) / (weight @ share)
        figures.append({"accuracy": accuracy, **_figures(true_counts, false_counts, far)})
    return _middle(figures)


def roc_intervals(
    distances: NDArray[np.float64], same: NDArray[np.bool_], far: tuple[float, ...], count: int
) -> dict[str, tuple[float, float]]:
    """As `confidence_intervals`, without the accuracy, in memory that grows with the genuine pairs alone.

    Exact, since between two genuine distances the ROC is level: how many impostors of a resample fall there, and how
    many pairs on each of these distances, is multinomial.

    Args:
        distances: float64 [n]; infinite: of a pair that no threshold accepts.
        same: bool [n], of both kinds.
        far: false accept rates.
        count: resamples; 0: no intervals.
    """
    if not count:
        return {}
    thresholds = np.unique(distances[same])
    counts = np.stack([_binned(distances[kind], thresholds) for kind in (same, ~same)])
    counts = counts[:, counts.any(0)]
    generator = np.random.default_rng(_SEED)
    figures = []
    for block in torch.arange(count).split(max(1, _BLOCK // counts.shape[1])):
        genuine, impostors = (
            torch.from_numpy(generator.multinomial(kind.sum(), kind / kind.sum(), len(block))) for kind in counts
        )
        figures.append(_figures(_accepted(genuine), _accepted(impostors), far))
    return _middle(figures)


def share_interval(share: float, of: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `of` independent cases, from `count` resamples of them."""
    low, high = np.quantile(np.random.default_rng(_SEED).binomial(of, share, count) / of, _QUANTILES)
    return float(low), float(high)


def _binned(distances: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many distances are below the first threshold, on it, between it and the second, and so on."""
    bins = np.searchsorted(thresholds, distances, "left") + np.searchsorted(thresholds, distances, "right")
    return np.bincount(bins, minlength=2 * len(thresholds) + 1)


def _figures(true_counts: Tensor, false_counts: Tensor, far: tuple[float, ...]) -> dict[str, Tensor]:
    """What is read off the ROC of each resample, by name: float64 [samples] each.

    Args:
        true_counts, false_counts: integers [samples, thresholds + 1], see `_accepted`.
        far: false accept rates; with too few impostors for one, its figure is left out.
    """
    genuine, impostors = int(true_counts[0, -1]), int(false_counts[0, -1])
    true_accepts, false_accepts = true_counts.double() / genuine, false_counts.double() / impostors
    figures = {
        "equal_error_rate": _equal_error_rates(false_accepts, true_accepts),
        "area_under_curve": torch.trapezoid(true_accepts, false_accepts, dim=1),
    }
    for rate in far:
        if impostors >= fewest_impostors(rate):
            # The last of the allowed thresholds, which come first.
            last = _last(false_counts <= int(rate * impostors + 1e-6))
            figures[f"tar_at_far_{rate:g}"] = true_accepts.gather(1, last).squeeze(1)
    return figures


def _middle(figures: Iterable[dict[str, Tensor]]) -> dict[str, tuple[float, float]]:
    """The middle 95 % of each figure, over all blocks of resamples."""
    whole: dict[str, list[Tensor]] = {}
    for block in figures:
        for name, values in block.items():
            whole.setdefault(name, []).append(values)
    ends = {name: np.quantile(torch.cat(values).cpu().numpy(), _QUANTILES) for name, values in whole.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _accepted(weights: Tensor) -> Tensor:
    """How many pairs are accepted with the first n of them, from none to all: int32 [samples, pairs + 1]."""
    return torch.nn.functional.pad(weights.cumsum(1, dtype=torch.int32), (1, 0))


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
