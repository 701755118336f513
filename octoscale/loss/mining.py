"""Which positive and which negative each anchor gets: indices only (paper §3.2, Eq. 6–10)."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Anchors per block of the distance matrix: bounds the memory at block × B values.
_BLOCK = 1024


@dataclass(frozen=True)
class Triplets:
    """Rows of the global batch: int64 [t] each, in ascending order of anchors."""

    anchors: Tensor
    positives: Tensor
    negatives: Tensor


@torch.no_grad()
def mine(anchors: Tensor, candidates: Tensor, rows: Tensor, identities: Tensor) -> Triplets:
    """Hardest positive and hardest negative of each anchor row.

    Positive: the farthest candidate of the anchor's identity that is not the anchor's own image (at
    exactly two images per identity, the other one). Negative: the nearest candidate of another
    identity. Ties go to the lowest row.

    Args:
        anchors: [n, d], projected embeddings that the anchors are taken from, whole global batch.
        candidates: [n, d], projected embeddings that positives and negatives are taken from.
        rows: int64 [m], which rows of `anchors` to mine for, ascending.
        identities: int64 [n].

    Returns:
        Triplets of those anchors that have both a positive and a negative.
    """
    columns = torch.arange(len(candidates), device=candidates.device)
    chosen = []
    for block in rows.split(_BLOCK):
        # [block, n]; the direct differences, since the matrix-product shortcut loses near neighbours.
        distances = torch.cdist(anchors[block], candidates, compute_mode="donot_use_mm_for_euclid_dist")
        same = identities[block, None] == identities[None, :]
        own = block[:, None] == columns[None, :]
        farthest, positives = distances.masked_fill(~same | own, -1.0).max(1)
        nearest, negatives = distances.masked_fill(same, torch.inf).min(1)
        usable = (farthest >= 0) & torch.isfinite(nearest)
        chosen.append(torch.stack([block, positives, negatives])[:, usable])
    return Triplets(*torch.cat(chosen, dim=1))
