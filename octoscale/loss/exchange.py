"""Embeddings of all ranks on every rank, with gradients that find their way home."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        ranks = dist.get_world_size(group)
        gathered = rows.new_empty((ranks * rows.shape[0], *rows.shape[1:]))
        dist.all_gather(list(gathered.chunk(ranks)), rows.contiguous(), group=group)
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # Every rank used every row: a row's gradient is the sum of what all ranks found for it.
        # A copy, since autograd may use the tensor it hands over elsewhere too.
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient, group=ctx.group)
        return gradient.chunk(dist.get_world_size(ctx.group))[dist.get_rank(ctx.group)], None


def gather_rows(rows: Tensor, group: dist.ProcessGroup) -> Tensor:
    """All ranks' rows in rank order, the same on every rank: [W · n, …] from [n, …].

    Its gradient is summed over the ranks before it returns to the owner of the row.
    """
    gathered: Tensor = _GatherRows.apply(rows, group)
    return gathered
