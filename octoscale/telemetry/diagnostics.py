"""Signs of a collapse that a mean does not show: the embeddings' dimensions, and negatives that everyone has.

Each rank's share is one vector, and the sum of these over the ranks tells all; so it travels with what a step reduces
anyway.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# Embeddings that are in fp64 at a time.
_ROWS = 8192


@dataclass(frozen=True)
class Diagnostics:
    """Of one global batch.

    Attributes:
        effective_rank: exp of the entropy of the normalised singular values of the centred embeddings, high and low:
            how many directions they really use, 1 up to their length (Roy & Vetterli, EUSIPCO 2007). 0 where all
            embeddings are one point.
        largest_hub: by term, how many anchors have the most frequent negative.
    """

    effective_rank: float
    largest_hub: dict[str, int]


@torch.no_grad()
def share_of(embeddings: Tensor, negatives: Mapping[str, Tensor], *, global_batch_size: int) -> Tensor:
    """What this rank adds.

    Args:
        embeddings: [n, d].
        negatives: by term, int64, any shape, rows of the global batch.

    Returns:
        fp64 [1 + d + d² + terms · global_batch_size], to be summed over the ranks.
    """
    dim = embeddings.shape[1]
    count = torch.tensor([len(embeddings)], dtype=torch.float64, device=embeddings.device)
    sums, products = count.new_zeros(dim), count.new_zeros(dim, dim)
    for rows in embeddings.split(_ROWS):
        # A small variance beside a large mean: fp32 would lose it.
        wide = rows.double()
        sums += wide.sum(0)
        products.addmm_(wide.T, wide)
    hubs = [torch.bincount(rows.flatten(), minlength=global_batch_size).double() for rows in negatives.values()]
    return torch.cat([count, sums, products.flatten(), *hubs])


def diagnose(total: Tensor, *, dim: int, terms: tuple[str, ...], global_batch_size: int) -> Diagnostics:
    """Read the sum of all ranks' shares: the same on every rank, for any number of them."""
    count, sums, products, hubs = total.split([1, dim, dim * dim, len(terms) * global_batch_size])
    mean = sums / count
    covariance = products.view(dim, dim) / count - torch.outer(mean, mean)
    singular = torch.linalg.eigvalsh(covariance).clamp_min(0).sqrt()
    # Rounding of the products: what is left of a direction that no embedding has.
    singular = singular * (singular > 1e-7 * products.view(dim, dim).trace().div(count).sqrt())
    share = singular / singular.sum()
    entropy = -torch.special.xlogy(share, share).sum()
    rank = float(entropy.exp()) if float(singular.sum()) > 0 else 0.0
    most = hubs.view(len(terms), global_batch_size).amax(1).tolist()
    return Diagnostics(rank, {term: int(anchors) for term, anchors in zip(terms, most, strict=True)})
