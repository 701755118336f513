"""What one image costs a network: multiplications, memory traffic, launches and stored activations, op by op.

The network runs on fake tensors: shapes and types are real, no number is computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from octoscale.models import load, set_training

_SIZE = 112
# One slice of the network on a CPU, so that nothing is accumulated over slices.
_IMAGES = 16
_CONVOLUTION = (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)


@dataclass(frozen=True)
class Op:
    """One kernel, per image.

    Attributes:
        flops: of convolutions and matrix products (a multiply-add is 2); 0 for what only moves memory.
        bytes: read and written, if nothing stays in a cache.
    """

    flops: float
    bytes: float


@dataclass(frozen=True)
class NetworkCost:
    """A network at 112 px with frozen batch norm.

    Attributes:
        name: as in `octoscale.models`.
        dim: d, of an embedding.
        parameters: all of them.
        trained: those with a gradient.
        buffers_bytes: what else a state_dict holds.
        state_tensors: of a state_dict and of AdamW, which has three for each trained parameter.
        forward, backward: kernels of one pass, per image.
        activation_bytes: kept between forward and backward, per image.
    """

    name: str
    dim: int
    parameters: int
    trained: int
    buffers_bytes: int
    state_tensors: int
    forward: tuple[Op, ...]
    backward: tuple[Op, ...]
    activation_bytes: float

    @property
    def forward_flops(self) -> float:
        return sum(op.flops for op in self.forward)

    @property
    def backward_flops(self) -> float:
        return sum(op.flops for op in self.backward)


@cache
def network_cost(name: str, *, dtype: torch.dtype = torch.bfloat16) -> NetworkCost:
    """Count a built-in network whose convolutions run in `dtype` (weights and batch norm stay fp32)."""
    with FakeTensorMode():
        network = load(name)
        set_training(network, "frozen")
        images = torch.empty(_IMAGES, 3, _SIZE, _SIZE, dtype=torch.uint8)
        saved: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            saved[_storage(tensor)] = tensor
            return tensor

        own = {_storage(tensor) for tensor in network.state_dict(keep_vars=True).values()}
        with (
            _Counting() as forward,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
        ):
            embeddings = network(images)
        with _Counting() as backward:
            embeddings.sum().backward()
    parameters = list(network.parameters())
    kept = sum(tensor.nbytes for storage, tensor in saved.items() if storage not in own)
    state = sum(tensor.nbytes for tensor in network.state_dict().values())
    return NetworkCost(
        name=name,
        dim=embeddings.shape[1],
        parameters=sum(parameter.numel() for parameter in parameters),
        trained=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        buffers_bytes=state - sum(parameter.nbytes for parameter in parameters),
        state_tensors=len(network.state_dict()) + 3 * sum(parameter.requires_grad for parameter in parameters),
        forward=tuple(forward.ops),
        backward=tuple(backward.ops),
        activation_bytes=kept / _IMAGES,
    )


class _Counting(TorchDispatchMode):
    """Records every op that launches something."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[Op] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        seen = {_storage(tensor) for tensor in tensors}
        is_view = all(_storage(tensor) in seen for tensor in results) and not func._schema.is_mutable
        if not is_view and "empty" not in func.__name__:
            moved = sum(tensor.nbytes for tensor in [*tensors, *results])
            self.ops.append(Op(_flops(func.overloadpacket, args, results) / _IMAGES, moved / _IMAGES))
        return out


def _storage(tensor: Tensor) -> int:
    """The same number for tensors that share memory."""
    return int(tensor.untyped_storage()._cdata)


def _flops(operation: Callable[..., Any], args: tuple[Any, ...], results: list[Tensor]) -> float:
    """PyTorch's own counter leaves groups out of a convolution's backward pass, so depthwise ones are counted here."""
    if operation is _CONVOLUTION[0]:
        return float(2.0 * results[0].numel() * args[1][0].numel())
    if operation is _CONVOLUTION[1]:
        # Its first argument is the gradient of the output; the mask tells which of input and weight get theirs.
        return float(2.0 * args[0].numel() * args[2][0].numel() * sum(args[-1][:2]))
    if operation in (torch.ops.aten.addmm, torch.ops.aten.mm):
        left, right = args[-2:]
        return float(2.0 * left.shape[0] * left.shape[1] * right.shape[1])
    return 0.0
