"""What carries out an optimizer step: the interface, and what its implementations share."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

EngineName = Literal["ddp", "deepspeed"]
Precision = Literal["fp32", "bf16", "fp16"]

# The dtype of matrix products and convolutions; weights and optimizer stay fp32.
AUTOCAST_DTYPE = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Update:
    """One optimizer step: the global gradient norm before clipping, and whether fp16 overflowed and it was skipped.

    `loss_scale` is that of the next step; None in other precisions.
    """

    gradient_norm: float
    skipped: bool = False
    loss_scale: float | None = None


class Engine(Protocol):
    """What a step needs of an engine. Every method is called by all ranks together."""

    @property
    def embedding_is_collective(self) -> bool:
        """Whether ranks speak to each other in `embed`, so that all must call it equally often."""

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings [n, d] of uint8 images [n, 3, size, size], with gradient where that is enabled."""

    def backward(self, parts: Sequence[Callable[[], Tensor]], *, second_pass: bool) -> None:
        """The gradient of the sum of `parts`, averaged over the ranks once, with the last part.

        Args:
            parts: each gives a scalar [] of embeddings, and is called just before its own backward pass, so that
                one part's activations are in memory at a time. At least one; ranks may differ in their number.
            second_pass: the parts embed images that have been embedded before, so running statistics stay as they
                are. The same on all ranks.
        """

    def update(self, learning_rate: float) -> Update:
        """One optimizer step with the gradient of `backward`."""

    def whole(self) -> AbstractContextManager[None]:
        """While it lasts, the network's parameters are whole on every rank, to be read."""

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer and fp16 scaler, whole and in fp32, keyed by parameter names: the same for every engine."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` of any engine gave, at any world size."""


def gradient_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Keeps fp16 gradients away from zero; does nothing in another precision."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def scaler_state(scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """The loss scale as tensors; of one that is not in use, the scale to start with."""
    state = scaler.state_dict() or torch.amp.GradScaler("cpu").state_dict()
    return {"scale": torch.tensor(state["scale"]), "growth_tracker": torch.tensor(state["_growth_tracker"])}


def load_scaler_state(scaler: torch.amp.GradScaler, state: dict[str, Tensor]) -> None:
    if scaler.is_enabled():
        scaler.load_state_dict(
            {**scaler.state_dict(), "scale": float(state["scale"]), "_growth_tracker": int(state["growth_tracker"])}
        )


def group_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What each group of parameters is trained with: a copy, without the parameters."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def replicated_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Model and optimizer of a network that is whole on every rank."""
    model, optimizer_state = get_state_dict(network, optimizer)
    return {"model": model, "optimizer": optimizer_state}


def load_replicated_state(network: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put back `replicated_state`. Weight decay and its like stay those of this run's configuration."""
    configured = group_settings(optimizer)
    set_state_dict(
        network,
        optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=StateDictOptions(strict=True),
    )
    for group, values in zip(optimizer.param_groups, configured, strict=True):
        group.update(values)


def average_over_ranks(tensors: list[Tensor]) -> None:
    """Replace each tensor by its mean over the ranks, in one message."""
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))
