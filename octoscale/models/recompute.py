"""Activation checkpointing: less memory in the backward pass, for a second forward pass of each block."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from octoscale.errors import OctoscaleError
from octoscale.models.batch_norm import statistics_restored


def recompute_activations(network: nn.Module) -> None:
    """From now on the backward pass finds only the inputs of each block, and computes the rest of it again.

    A block is an outermost module of a Sequential or ModuleList that has modules of its own. Names of parameters,
    values and gradients stay what they are; dropout repeats its draws, running statistics see each image once.

    Raises:
        OctoscaleError: the network has no such blocks.
    """
    blocks = list(_blocks(network))
    if not blocks:
        raise OctoscaleError(
            "model.activation_checkpointing finds no blocks in this network, modules in an nn.Sequential or "
            "nn.ModuleList; set it to false"
        )
    for block in blocks:
        # On the instance: a wrapping module would rename the parameters.
        block.forward = partial(_recomputed, block, block.forward)


def _recomputed(block: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, block))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the first forward pass of a block, and around its repetition."""
    return nullcontext(), statistics_restored(block)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(module, nn.Sequential | nn.ModuleList) and not isinstance(child, nn.ModuleList):
            if any(True for _ in child.children()):
                yield child
        else:
            yield from _blocks(child)
