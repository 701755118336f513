"""Face verification accuracy by ten-fold cross-validation, the protocol of LFW."""

from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from octoscale.errors import OctoscaleError
from octoscale.evaluate.curves import checked


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


def accuracy_10fold(distances: ArrayLike, same: ArrayLike, folds: int = 10) -> Accuracy:
    """Cross-validated verification accuracy.

    Each fold is judged with the `best_threshold` of all other folds. The folds are contiguous and not
    shuffled, the first n mod `folds` one pair longer (scikit-learn's ``KFold(10, shuffle=False)``), so the
    order of the pairs matters.

    Args:
        distances: [n], lower = alike.
        same: bool [n], true for genuine pairs.
        folds: 2…n.

    Returns:
        Mean and standard deviation over the folds.

    Raises:
        OctoscaleError: a wrong number of folds; lengths differ, a distance is not finite, or one kind of
            pair is missing.
    """
    values, genuine = checked(distances, same)
    if not 2 <= folds <= len(values):
        raise OctoscaleError(f"{folds} folds of {len(values)} pairs: use 2…{len(values)} folds")
    accuracies = []
    for held_out in np.array_split(np.arange(len(values)), folds):
        rest = np.delete(np.arange(len(values)), held_out)
        accepted = values[held_out] <= best_threshold(values[rest], genuine[rest])
        accuracies.append(np.mean(accepted == genuine[held_out]))
    return Accuracy(float(np.mean(accuracies)), float(np.std(accuracies)))
