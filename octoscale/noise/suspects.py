"""Negatives that are nearer than they should be, mined batch by batch as in training."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octoscale.loss import octuplet
from octoscale.loss.distance import distance_and_slope, project


@dataclass(frozen=True)
class Suspects:
    """Triplets whose negative is suspiciously near, and what is usual in the same batches.

    Distances are cosine distances: 0 alike, 1 unrelated.

    Attributes:
        anchors, positives, negatives: int64 [t], sample ids.
        positive_distances, negative_distances: float32 [t].
        anchor_count: anchors mined, suspicious or not.
        stranger_distance: of two images of different identities, taken without a choice, one in a thousand is nearer.
    """

    anchors: NDArray[np.int64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    positive_distances: NDArray[np.float32]
    negative_distances: NDArray[np.float32]
    anchor_count: int
    stranger_distance: float


# Quantiles of the normal distribution: its standard deviation below the mean, and the rarest thousandth.
_LOWER_QUANTILE, _RARE_DEVIATIONS = 0.1587, 3.09


@torch.inference_mode()
def find_suspects(
    embeddings: Tensor,
    identities: NDArray[np.int64],
    batches: Iterable[NDArray[np.int64]],
    *,
    alpha: float,
    progress: Callable[[int], object] = lambda done: None,
) -> Suspects:
    """Mine the hardest negative of each anchor (term hhh) and keep those with d(a,n) < alpha · d(a,p).

    Args:
        embeddings: float [n, d], row = sample id; their length does not matter.
        identities: int64 [n].
        batches: int64 [B] each, sample ids; rows 2k and 2k + 1 are two images of an identity that is nowhere else in
            the batch, as a plan gives them. At least one batch of two identities.
        alpha: 1 counts every negative that is nearer than the positive, less only the much nearer ones.
        progress: called with the number of batches done.

    Raises:
        OctoscaleError: NaN or infinite embeddings.
    """
    kept: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    strangers: list[Tensor] = []
    anchor_count = 0
    for done, sample_ids in enumerate(batches, start=1):
        rows = embeddings[torch.from_numpy(sample_ids)]
        labels = torch.from_numpy(identities[sample_ids]).to(rows.device)
        found = octuplet(rows, rows, labels, metric="cosine", margin=0.0, terms=("hhh",)).terms["hhh"].triplets
        unit = project(rows.float(), metric="cosine", normalize=False)
        to_positive = _cosine_distance(unit[found.anchors], unit[found.positives])
        to_negative = _cosine_distance(unit[found.anchors], unit[found.negatives])
        near = to_negative < alpha * to_positive
        triplets = torch.stack([found.anchors, found.positives, found.negatives])[:, near].cpu().numpy()
        distances = torch.stack([to_positive, to_negative])[:, near].cpu().numpy()
        kept.append((sample_ids[triplets], distances))
        # The first image of each identity with the first of the next one.
        strangers.append(_cosine_distance(unit[0::2], unit[0::2].roll(1, 0)).cpu())
        anchor_count += len(found.anchors)
        progress(done)
    assert kept, "no batches"
    (anchors, positives, negatives) = np.concatenate([triplets for triplets, _ in kept], axis=1)
    (positive_distances, negative_distances) = np.concatenate([distances for _, distances in kept], axis=1)
    return Suspects(
        anchors, positives, negatives, positive_distances, negative_distances, anchor_count,
        _rarely_nearer(torch.cat(strangers).numpy()),
    )  # fmt: skip


def _rarely_nearer(distances: NDArray[np.float32]) -> float:
    """Below it lies one in a thousand, were they normally distributed around their median.

    Not the quantile itself: the nearest "strangers" of all are the mislabels that are looked for.
    """
    median, lower = np.quantile(distances, (0.5, _LOWER_QUANTILE))
    return float(median - _RARE_DEVIATIONS * (median - lower))


def _cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """[n], of matching rows of unit vectors [n, d]."""
    return distance_and_slope(a - b, metric="cosine")[0]
