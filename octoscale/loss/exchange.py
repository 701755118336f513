"""Embeddings of all ranks on every rank, with gradients that find their way home."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        gathered = rows.new_empty((dist.get_world_size(group) * rows.shape[0], *rows.shape[1:]))
        dist.all_gather_into_tensor(gathered, rows.contiguous(), group=group)
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # Every rank used every row: a row's gradient is the sum of what all ranks found for it.
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient.chunk(dist.get_world_size(ctx.group))[dist.get_rank(ctx.group)], None


def gather_rows(rows: Tensor, group: dist.ProcessGroup) -> Tensor:
    """All ranks' rows in rank order, the same on every rank: [W · n, …] from [n, …].

    Its gradient is summed over the ranks before it returns to the owner of the row.
    """
    gathered: Tensor = _GatherRows.apply(rows, group)
    return gathered
