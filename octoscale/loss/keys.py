"""A neighbour as one number: the nearer the smaller, the lowest row among equals, the same on every rank."""

import torch
from torch import Tensor

from octoscale.loss.rows import Rows, blocks, rows_at_once

# (bits of the squared distance in fp32) << 32 | row of the global batch. Squared distances are ≥ 0, so their bits
# are in their order; they are scaled (`Rows.scale`), which makes them comparable between ranks.
NONE = torch.iinfo(torch.int64).max


def keys_of(squared: Tensor, ids: Tensor) -> Tensor:
    """Keys of squared distances ≥ 0 (fp32, scaled) and rows < 2³² of the global batch; infinite ones give NONE."""
    return torch.where(squared.isfinite(), squared.view(torch.int32).long() << 32 | ids, NONE)


def key_distance(keys: Tensor) -> Tensor:
    """The squared distance (scaled) in a key: fp32; infinite for NONE."""
    return torch.where(keys == NONE, torch.inf, (keys >> 32).int().view(torch.float32))


def key_id(keys: Tensor) -> Tensor:
    """The row of the global batch in a key: int64."""
    return keys & 0xFFFFFFFF


def exact_keys(anchors: Rows, candidates: Rows, anchor_rows: Tensor, candidate_rows: Tensor) -> Tensor:
    """Keys from direct differences in fp64, one rounding to fp32.

    Args:
        anchor_rows: int64 [n].
        candidate_rows: int64 [n, k], −1 for none.

    Returns:
        int64 [n, k], ascending.
    """
    columns = [
        squared_distances(anchors.source, candidates.source, anchor_rows, rows.clamp(min=0), anchors.scale)
        for rows in candidate_rows.unbind(1)
    ]
    squared = torch.stack(columns, dim=1).masked_fill_(candidate_rows < 0, torch.inf)
    return keys_of(squared, candidates.ids[candidate_rows.clamp(min=0)]).sort(dim=1).values


def squared_distances(a: Tensor, b: Tensor, a_rows: Tensor, b_rows: Tensor, scale: float) -> Tensor:
    """Squared distances (scaled) of rows `a_rows` of a and `b_rows` of b, differences and sums in fp64: fp32 [n]."""
    squared = torch.empty(len(a_rows), device=a.device)
    for part in blocks(len(a_rows), rows_at_once(a.device, 8 * a.shape[1])):
        difference = a.index_select(0, a_rows[part]).double().sub_(b.index_select(0, b_rows[part]))
        # A power of two: the same bits as if the differences had been scaled.
        squared[part] = difference.square_().sum(1).mul_(scale**2)
    return squared


def merge(keys: Tensor, others: Tensor) -> Tensor:
    """The least of two lists of keys: [..., k] from [..., k] and [..., k]."""
    return torch.cat([keys, others], dim=-1).sort(dim=-1).values[..., : keys.shape[-1]]


def keep_least(keys: Tensor, rows: Tensor, found: Tensor) -> None:
    """Keep the least of `keys` [n, k] and of `found` [t, k], whose row t belongs to row `rows[t]` of `keys`."""
    count = keys.shape[1]
    if count == 1:
        keys[:, 0].scatter_reduce_(0, rows, found[:, 0], "amin")
        return
    all_rows = torch.cat([torch.arange(len(keys), device=keys.device), rows]).repeat_interleave(count)
    all_keys = torch.cat([keys, found]).flatten()
    by_key = all_keys.argsort()
    order = by_key[all_rows[by_key].argsort(stable=True)]
    start = torch.searchsorted(all_rows[order], torch.arange(len(keys), device=keys.device))
    keys.copy_(all_keys[order[start[:, None] + torch.arange(count, device=keys.device)]])
