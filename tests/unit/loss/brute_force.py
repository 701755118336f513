"""The loss by one matrix of all distances in fp64, differentiated by autograd: for batches too large for the loops."""

from typing import Any

import torch
from torch import Tensor

TERMS = {"hhh": ("high", "high"), "hll": ("high", "low"), "lhh": ("low", "high"), "lll": ("low", "low")}


def octuplet(
    high: Tensor,
    low: Tensor,
    identities: Tensor,
    *,
    margin: float,
    metric: str = "euclidean",
    normalize: bool = False,
    terms: Any = tuple(TERMS),
    negatives: str = "hardest",
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss with gradient, and int64 [t, 2 + k] anchor, positive, negatives by term."""
    rule, _, argument = negatives.rstrip(")").partition("(")
    sides = {"high": high.double(), "low": low.double()}
    if normalize or metric == "cosine":
        sides = {side: rows / rows.norm(dim=1, keepdim=True) for side, rows in sides.items()}
    same = identities[:, None] == identities[None, :]
    own = torch.eye(len(identities), dtype=torch.bool)
    has_positive = (same & ~own).any(1)
    total, chosen = high.new_zeros((), dtype=torch.float64), {}
    for term in terms:
        a, c = (sides[side] for side in TERMS[term])
        squared = (a[:, None, :] - c[None, :, :]).square().sum(2)
        # A root has no slope at 0; the loss defines it as 0.
        distances = {
            "euclidean": torch.where(squared > 0, squared.where(squared > 0, 1.0).sqrt(), 0.0),
            "euclidean_squared": squared,
            "cosine": squared / 2,
        }[metric]
        to_positive, positives = distances.masked_fill(~same | own, -1).max(1)
        allowed = ~same
        if rule == "semihard":
            allowed = allowed & (distances > to_positive[:, None])
        if rule == "positive_aware":
            allowed = allowed & (distances >= float(argument) * to_positive[:, None])
        count = int(argument) if rule in ("rank", "top_k_mean") else 1
        # Stable: the lowest row among equals.
        to_negative, nearest = distances.masked_fill(~allowed, torch.inf).sort(dim=1, stable=True)
        first = 0 if rule == "top_k_mean" else count - 1
        to_negative, nearest = to_negative[:, first:count], nearest[:, first:count]
        used = has_positive & to_negative[:, 0].isfinite()
        hinge = (to_positive - to_negative.where(used[:, None], 0.0).mean(1) + margin).clamp_min(0)
        total = total + hinge[used].sum() / has_positive.sum()
        chosen[term] = torch.cat([used.nonzero(), positives[used, None], nearest[used]], dim=1)
    return total, chosen
