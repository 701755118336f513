"""What every protocol of verification comes down to: pairs of distinct images, in folds."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from octoscale.errors import OctoscaleError

FOLDS = 10


class Listed(NamedTuple):
    """One pair of a list."""

    first: str  # an image's name, as in `Pairs.images`
    second: str
    same: bool
    where: str  # for messages: "line 7 of pairs.txt"


@dataclass(frozen=True)
class Pairs:
    """n pairs of m distinct images, in the order of the list."""

    images: tuple[str, ...]  # [m] below the folder of images, without a suffix
    first: NDArray[np.int64]  # [n] rows of `images`
    second: NDArray[np.int64]  # [n] the image that is degraded
    same: NDArray[np.bool_]  # [n] true for genuine pairs
    fold: NDArray[np.int64]  # [n] 0, 1, …: the fold that each pair belongs to
    where: tuple[str, ...]  # [n] where each stands in its list

    def __len__(self) -> int:
        return len(self.same)

    @property
    def folds(self) -> int:
        return len(np.unique(self.fold))

    def digest(self) -> str:
        """Of what decides a result but for the images themselves: their names, the pairs, labels and folds."""
        found = sha256("\n".join(self.images).encode())
        for numbers in (self.first, self.second, self.same, self.fold):
            found.update(numbers.astype("<i8").tobytes())
        return found.hexdigest()[:16]


def collect(listed: Iterable[Listed], source: str, fold: ArrayLike | None = None) -> Pairs:
    """Number the distinct images of a list of pairs, in the order in which they come up.

    Args:
        source: the list, for messages.
        fold: int [n]; None: the list has none, see `balanced_folds`.

    Raises:
        OctoscaleError: no pairs, fewer than `FOLDS` of a kind where they are to be cut into folds, or a kind in one
            fold alone.
    """
    pairs = list(listed)
    if not pairs:
        raise OctoscaleError(f"{source} lists no pairs; give another list or another protocol")
    rows: dict[str, int] = {}
    both = [[rows.setdefault(pair.first, len(rows)), rows.setdefault(pair.second, len(rows))] for pair in pairs]
    first, second = np.array(both, np.int64).T
    same = np.array([pair.same for pair in pairs])
    if fold is None:
        genuine = np.count_nonzero(same)
        if min(genuine, len(same) - genuine) < FOLDS:
            raise OctoscaleError(
                f"{source} lists {genuine} genuine and {len(same) - genuine} impostor pairs without folds; {FOLDS} "
                f"folds take {FOLDS} or more of either kind"
            )
        fold = balanced_folds(same)
    folds = np.asarray(fold, np.int64)
    for kind, name in ((same, "genuine"), (~same, "impostor")):
        # The threshold of a fold is found with the pairs of the others.
        if (found := len(np.unique(folds[kind]))) < 2:
            raise OctoscaleError(
                f"{source} has {name} pairs in {found} of its {len(np.unique(folds))} folds; each fold is judged by "
                "the threshold of the others: give pairs of either kind in two folds or more"
            )
    return Pairs(tuple(rows), first, second, same, folds, tuple(pair.where for pair in pairs))


def balanced_folds(same: NDArray[np.bool_], folds: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each pair of a list that has none: a contiguous part of either kind, whatever their order.

    Of 3,000 + 3,000 pairs the first 300 of either kind are the first fold, of 600 + 6,000 the first 60 and 600.

    Args:
        same: bool [n].
    """
    fold = np.empty(len(same), np.int64)
    for kind in (same, ~same):
        fold[kind] = contiguous_folds(int(kind.sum()), folds)
    return fold


def contiguous_folds(count: int, folds: int = FOLDS) -> NDArray[np.int64]:
    """Consecutive folds, the first count mod `folds` one pair longer, as scikit-learn's ``KFold`` cuts them."""
    sizes = [len(part) for part in np.array_split(np.arange(count), folds)]
    return np.repeat(np.arange(folds), sizes)
