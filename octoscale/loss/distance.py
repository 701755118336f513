"""The three distances of the paper (Eq. 2–4), for values and for choosing."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Metric = Literal["euclidean", "euclidean_squared", "cosine"]
METRICS: tuple[Metric, ...] = get_args(Metric)


def project(embeddings: Tensor, *, metric: Metric, normalize: bool) -> Tensor:
    """The vectors between which the metric is a function of their Euclidean distance alone.

    The cosine distance of two vectors is half the squared Euclidean distance of their directions, so
    one choice of neighbours and one set of formulas serves all metrics.

    Args:
        embeddings: [n, d].

    Returns:
        [n, d]: unit vectors for `cosine` or `normalize`, else the embeddings themselves.
    """
    return F.normalize(embeddings, dim=1, eps=1e-12) if normalize or metric == "cosine" else embeddings


def distance(a: Tensor, b: Tensor, *, metric: Metric) -> Tensor:
    """Distance between matching rows of projected embeddings, from their direct difference.

    Never through the Gram matrix: at distance 0.03 and norm 23 its gradient is off by 11 %.

    Args:
        a, b: [n, d], as `project` returns them.

    Returns:
        [n]; the gradient of `euclidean` at distance 0 is 0.
    """
    squared = (a - b).square().sum(1)
    if metric == "euclidean_squared":
        return squared
    if metric == "cosine":
        return squared / 2
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)
