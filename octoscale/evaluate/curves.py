"""The receiver operating characteristic and what is read off it.

Distances are lower where two faces are more alike; a pair is accepted where its distance is at most the
threshold. Genuine pairs accepted: true accept rate (TAR). Impostor pairs accepted: false accept rate (FAR).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from octoscale.errors import OctoscaleError


@dataclass(frozen=True)
class Roc:
    """The curve at every distinct threshold, from nothing accepted (threshold −inf) to everything."""

    false_accept_rate: NDArray[np.float64]  # [thresholds], ascending from 0 to 1
    true_accept_rate: NDArray[np.float64]  # [thresholds], ascending from 0 to 1
    threshold: NDArray[np.float64]  # [thresholds], ascending


def checked(distances: ArrayLike, same: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """`distances` as float64 [n] and `same` as bool [n].

    Raises:
        OctoscaleError: lengths differ, a distance is not finite, or one kind of pair is missing.
    """
    values, genuine = np.asarray(distances, np.float64), np.asarray(same, bool)
    if values.ndim != 1 or values.shape != genuine.shape:
        raise OctoscaleError(
            f"distances {values.shape} and same {genuine.shape} must be two vectors with one entry per pair"
        )
    if not np.isfinite(values).all():
        raise OctoscaleError(
            f"{np.count_nonzero(~np.isfinite(values))} of {len(values)} distances are not finite: the network gives "
            "NaN or infinite embeddings; lower the learning rate or look for damaged weights"
        )
    if genuine.all() or not genuine.any():
        raise OctoscaleError(
            f"{np.count_nonzero(genuine)} genuine and {np.count_nonzero(~genuine)} impostor pairs: "
            "verification needs both kinds"
        )
    return values, genuine


def roc(distances: ArrayLike, same: ArrayLike) -> Roc:
    """The ROC of n pairs.

    Args:
        distances: [n], lower = alike.
        same: bool [n], true for genuine pairs.

    Raises:
        OctoscaleError: see `checked`.
    """
    values, genuine = checked(distances, same)
    thresholds, which = np.unique(values, return_inverse=True)
    accepted = [
        np.concatenate([[0], np.bincount(which[kind], minlength=len(thresholds)).cumsum()])
        for kind in (~genuine, genuine)
    ]
    false_accept_rate, true_accept_rate = (counts / counts[-1] for counts in accepted)
    return Roc(false_accept_rate, true_accept_rate, np.concatenate([[-np.inf], thresholds]))


def area_under_curve(curve: Roc) -> float:
    """The area under the ROC by the trapezoidal rule: the probability that a genuine pair is the closer one."""
    heights = (curve.true_accept_rate[1:] + curve.true_accept_rate[:-1]) / 2
    return float(np.diff(curve.false_accept_rate) @ heights)


def equal_error_rate(curve: Roc) -> float:
    """The FAR where it equals 1 − TAR, linear between the two thresholds around it."""
    excess = curve.false_accept_rate + curve.true_accept_rate - 1  # rises from −1 to 1
    right = int(np.argmax(excess >= 0))
    left = right - 1
    part = -excess[left] / (excess[right] - excess[left])
    low, high = curve.false_accept_rate[left], curve.false_accept_rate[right]
    return float(low + part * (high - low))


def fewest_impostors(far: float) -> int:
    """How many impostor pairs it takes to tell a false accept rate of `far` from none: 1/far."""
    # The slack keeps 1/0.001 from becoming 1001 by rounding.
    return math.ceil(1 / far - 1e-6)


def tar_at_far(distances: ArrayLike, same: ArrayLike, far: float) -> float | None:
    """The largest true accept rate whose false accept rate is at most `far`; not interpolated.

    Args:
        distances: [n], lower = alike.
        same: bool [n], true for genuine pairs.
        far: between 0 and 1.

    Returns:
        None where there are fewer than `fewest_impostors(far)` impostor pairs: the number would be
        that at FAR 0, whatever `far` says.

    Raises:
        OctoscaleError: see `checked`.
    """
    values, genuine = checked(distances, same)
    impostors = np.sort(values[~genuine])
    if len(impostors) < fewest_impostors(far):
        return None
    allowed = int(far * len(impostors) + 1e-6)
    if allowed >= len(impostors):
        return 1.0
    # Any threshold below the first impostor that is one too many accepts at most `allowed` of them.
    return float(np.mean(values[genuine] < impostors[allowed]))


def tar_of_curve(curve: Sequence[tuple[float, float]], fars: ArrayLike) -> NDArray[np.float64]:
    """The TAR that a curve of corners, as `thinned` gives them, allows at each false accept rate; not interpolated.

    Args:
        curve: (FAR, TAR), ascending, the first with FAR 0.
        fars: [n].
    """
    far, tar = np.array(curve, np.float64).T
    # The slack keeps a rate that is a corner's own from falling left of it by rounding.
    corner = np.searchsorted(far, np.asarray(fars, np.float64) * (1 + 1e-9), side="right") - 1
    allowed: NDArray[np.float64] = tar[corner]
    return allowed


def thinned(curve: Roc, points: int = 100) -> tuple[tuple[float, float], ...]:
    """(FAR, TAR) of at most about `points` points of the curve, ascending, spaced for a logarithmic FAR axis.

    Each point is a corner of the ROC: the largest TAR that its FAR allows. The first has FAR 0, the last is (1, 1).
    """
    rates, last = np.unique(curve.false_accept_rate[::-1], return_index=True)
    best = curve.true_accept_rate[::-1][last]
    # Row 0 is FAR 0. The others by logarithm of their position, ends included.
    rows = np.unique(np.concatenate([[0], np.geomspace(1, len(rates) - 1, points).round().astype(int)]))
    return tuple((float(rates[row]), float(best[row])) for row in rows)
