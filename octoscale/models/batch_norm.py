"""What batch normalisation does while a network is fine-tuned."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from octoscale.errors import OctoscaleError

BatchNormPolicy = Literal["frozen", "sync", "chunk"]


class _MeanOverRanks(torch.autograd.Function):
    """The mean of a tensor over the ranks; it is its own transpose, so the gradient is averaged likewise."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total / dist.get_world_size(group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _MeanOverRanks.forward(ctx, gradients[0], ctx.group), None


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of all ranks' images, on any device.

    torch.nn.SyncBatchNorm refuses CPUs. Every rank must bring equally many images, as the chunks of a step do.
    """

    def __init__(self, norm: _BatchNorm, group: dist.ProcessGroup) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.__dict__.update(norm.__dict__)  # its very parameters and buffers, under their names
        self._group = group

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.ndim >= 2

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, channels, …]; the same shape and dtype come back."""
        if not self.training:
            normal: Tensor = super().forward(input)
            return normal
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        dims = [dim for dim in range(input.ndim) if dim != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        mean = _MeanOverRanks.apply(wide.mean(dims), self._group)
        centred = wide - mean.view(shape)
        variance = _MeanOverRanks.apply(centred.square().mean(dims), self._group)
        self._update_statistics(mean.detach(), variance.detach(), input.numel() // self.num_features)
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)

    def _update_statistics(self, mean: Tensor, variance: Tensor, rank_count: int) -> None:
        if not self.track_running_stats or self.running_mean is None:
            return
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        count = rank_count * dist.get_world_size(self._group)
        with torch.no_grad():
            self.num_batches_tracked += 1
            rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
            # As torch does: biased to normalise, unbiased to remember.
            self.running_var.lerp_((variance * (count / max(count - 1, 1))).to(self.running_var.dtype), rate)


def set_training(network: nn.Module, batch_norm: BatchNormPolicy, group: dist.ProcessGroup | None = None) -> None:
    """Put `network` in training mode (dropout active).

    Args:
        network: any module, not wrapped yet; changed in place.
        batch_norm: ``"frozen"`` normalises with the running statistics and leaves them as they are, so an embedding
            does not depend on its chunk; weight and bias still train. ``"chunk"`` normalises with the statistics of
            the images that are in the network together, ``"sync"`` with those of all ranks' images at that moment;
            both update the running statistics.
        group: all ranks, for ``"sync"``; None in a single process, where it is the same as ``"chunk"``.

    Raises:
        OctoscaleError: there is nothing in it to train, or ``"sync"`` for a layer that does more than normalise.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise OctoscaleError("this network has no parameters to train; an ONNX file can be evaluated alone")
    network.train()
    if batch_norm == "frozen":
        for norm in _norms(network):
            norm.eval()
    elif batch_norm == "sync":
        _refuse_others(network)
        if group is not None:
            _synchronise(network, group)


def _refuse_others(network: nn.Module) -> None:
    """A layer with a forward of its own (an activation in it, say) would lose it."""
    plain = (_BatchNorm.forward, nn.SyncBatchNorm.forward, SyncBatchNorm.forward)
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and type(module).forward not in plain:
            raise OctoscaleError(
                f"batch_norm=sync puts another layer in the place of each BatchNorm, and {name} is a "
                f"{type(module).__name__}, which does more than that: set model.batch_norm to frozen or chunk"
            )


def _synchronise(network: nn.Module, group: dist.ProcessGroup) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SyncBatchNorm(child, group))


def set_epsilon(network: nn.Module, epsilon: float) -> None:
    """Give every BatchNorm layer this epsilon.

    Raises:
        OctoscaleError: there is none.
    """
    norms = _norms(network)
    if not norms:
        raise OctoscaleError("model.batch_norm_epsilon is of BatchNorm layers, and this network has none: leave it out")
    for norm in norms:
        norm.eps = epsilon


def mixes_images(network: nn.Module) -> bool:
    """Whether an embedding depends on the other images of its batch: normalisation by batch statistics."""
    return any(norm.training for norm in _norms(network))


def meets_other_ranks(network: nn.Module) -> bool:
    """Whether the ranks speak to each other in a forward pass: normalisation by the statistics of all of them."""
    return any(isinstance(norm, SyncBatchNorm) for norm in _norms(network))


def running_statistics(network: nn.Module) -> list[Tensor]:
    """The running means and variances that training changes."""
    norms = [norm for norm in _norms(network) if norm.training]
    return [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var) if tensor is not None]


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Images that go through `network` a second time leave its running statistics as they are."""
    norms = [norm for norm in _norms(network) if norm.training and norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def statistics_restored(network: nn.Module) -> Iterator[None]:
    """As `statistics_kept`, for a pass that must do the same operations as the one that it repeats."""
    norms = [norm for norm in _norms(network) if norm.training and norm.track_running_stats]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def _norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]
