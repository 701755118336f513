"""Face verification accuracy by ten-fold cross-validation, the protocol of LFW."""

from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from octoscale.errors import OctoscaleError
from octoscale.evaluate.curves import checked
from octoscale.evaluate.protocols.pairs import contiguous_folds


class Accuracy(NamedTuple):
    """Fractions 0–1; `std` is the population's, over the folds."""

    mean: float
    std: float


def cosine_distances(first: Tensor, second: Tensor) -> Tensor:
    """1 − cosine of the angle between rows.

    Args:
        first, second: embeddings [n, dim], normalised or not.

    Returns:
        float64 [n] in 0…2; 1 where an embedding is zero.
    """
    return 1 - F.cosine_similarity(first.double(), second.double(), dim=1)


def best_threshold(distances: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """The threshold that judges most pairs rightly, where a distance of at most it means the same person.

    Exact: the candidates are the midpoints between neighbouring distinct distances, and ±infinity
    (accept nobody, accept everybody). Of equally good ones the lowest is taken: the strictest, with
    the fewest false accepts.

    Args:
        distances: float64 [n], n > 0.
        same: bool [n].
    """
    values, which = np.unique(distances, return_inverse=True)
    # Right answers gained by accepting one more distinct distance: genuine pairs less impostor pairs.
    gain = np.bincount(which, weights=np.where(same, 1, -1), minlength=len(values))
    best = int(np.argmax(np.concatenate([[0], gain.cumsum()])))
    edges = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    return float(edges[best])


def accuracy_10fold(distances: ArrayLike, same: ArrayLike, folds: int | NDArray[np.int64] = 10) -> Accuracy:
    """Cross-validated verification accuracy: see `decisions`.

    Returns:
        Mean and standard deviation over the folds.

    Raises:
        OctoscaleError: see `decisions`.
    """
    right, fold = decisions(distances, same, folds)
    accuracies = [np.mean(right[fold == number]) for number in np.unique(fold)]
    return Accuracy(float(np.mean(accuracies)), float(np.std(accuracies)))


def decisions(
    distances: ArrayLike, same: ArrayLike, folds: int | NDArray[np.int64] = 10
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether each pair is judged rightly, where each fold is judged with the `best_threshold` of all the others.

    Args:
        distances: [n], lower = alike.
        same: bool [n], true for genuine pairs.
        folds: the fold of each pair, int64 [n]; or 2…n contiguous folds in the order of the pairs, not
            shuffled (scikit-learn's ``KFold(10, shuffle=False)``).

    Returns:
        bool [n], true where the decision is right, and the fold of each pair, int64 [n].

    Raises:
        OctoscaleError: a wrong number of folds; lengths differ, a distance is not finite, or one kind of
            pair is missing.
    """
    values, genuine = checked(distances, same)
    if isinstance(folds, int):
        if not 2 <= folds <= len(values):
            raise OctoscaleError(f"{folds} folds of {len(values)} pairs: use 2…{len(values)} folds")
        folds = contiguous_folds(len(values), folds)
    right = np.empty(len(values), bool)
    for number in np.unique(folds):
        held_out = folds == number
        threshold = best_threshold(values[~held_out], genuine[~held_out])
        right[held_out] = (values[held_out] <= threshold) == genuine[held_out]
    return right, folds
