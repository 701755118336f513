"""How one optimizer step is carried out: one process, or DDP over all ranks."""

from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from octoscale.distributed.world import World

Precision = Literal["fp32", "bf16"]


class Engine(Protocol):
    """What the step needs of an engine. The loss it is given is this rank's share: see `octuplet_loss`."""

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings [n, d] of uint8 images [n, 3, size, size], with gradient."""

    def backward(self, loss: Tensor) -> None:
        """Gradients of the global loss, averaged over the ranks."""

    def update(self, learning_rate: float) -> float:
        """One optimizer step; the global gradient norm before clipping."""

    def state_dict(self) -> dict[str, Any]:
        """Model and optimizer, keyed by parameter names, free of any wrapper's prefixes."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave, at any world size."""


class DdpEngine:
    """Replicated parameters; DDP averages the gradients when there is more than one rank.

    Batch norm that trains normalises with its rank's part of the batch, as everywhere under DDP. Its running
    statistics are averaged after each step, so that all ranks always evaluate and commit one network.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        world: World,
        *,
        precision: Precision = "fp32",
        max_gradient_norm: float | None = None,
    ) -> None:
        self._optimizer = optimizer
        self._device = world.device
        self._precision = precision
        self._max_gradient_norm = max_gradient_norm or float("inf")
        devices = [world.device] if world.device.type == "cuda" else None
        self._network = network
        self._statistics: list[Tensor] = []
        if world.world_size > 1:
            self._network = DistributedDataParallel(network, device_ids=devices)
            self._statistics = _running_statistics(network)
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def embed(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            embeddings: Tensor = self._network(images)
        return embeddings

    def backward(self, loss: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()

    def update(self, learning_rate: float) -> float:
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_gradient_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        _average(self._statistics)
        return float(norm)

    def state_dict(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self._network, self._optimizer)
        return {"model": model, "optimizer": optimizer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        set_state_dict(
            self._network,
            self._optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=StateDictOptions(strict=True),
        )


def _running_statistics(network: nn.Module) -> list[Tensor]:
    """The running means and variances that training changes."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    return [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var) if tensor is not None]


def _average(tensors: list[Tensor]) -> None:
    """Replace each tensor by its mean over the ranks, in one message."""
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))
