"""One process, or PyTorch's DistributedDataParallel over all ranks."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from octoscale.distributed.engine import (
    AUTOCAST_DTYPE,
    Precision,
    Update,
    average_over_ranks,
    gradient_scaler,
    load_replicated_state,
    load_scaler_state,
    replicated_state,
    scaler_state,
)
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.models.batch_norm import meets_other_ranks, running_statistics, statistics_kept


class DdpEngine:
    """Replicated parameters; DDP averages the gradients when there is more than one rank.

    Batch norm's running statistics, where it trains, are averaged after each step, so that all ranks always
    evaluate and commit one network.
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
        self._network = network
        self._optimizer = optimizer
        self._device = world.device
        self._dtype = AUTOCAST_DTYPE[precision]
        self._scaler = gradient_scaler(world.device, precision)
        self._max_gradient_norm = max_gradient_norm or float("inf")
        self._wrapped: DistributedDataParallel | None = None
        self._statistics: list[Tensor] = []
        if world.world_size > 1:
            devices = [world.device] if world.device.type == "cuda" else None
            with warnings.catch_warnings():
                # PyTorch 2.13 has another name for it, 2.11 has not.
                warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
                # The statistics are averaged below: rank 0's would overwrite the others' before every forward.
                self._wrapped = DistributedDataParallel(network, device_ids=devices, broadcast_buffers=False)
            self._statistics = running_statistics(network)
        self.embedding_is_collective = meets_other_ranks(network)
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def embed(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None):
            embeddings: Tensor = (self._wrapped or self._network)(images)
        return embeddings

    def backward(self, parts: Sequence[Callable[[], Tensor]], *, second_pass: bool) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        *early, last = parts
        with statistics_kept(self._network) if second_pass else nullcontext():
            # Around the forward passes too: there DDP decides whether the backward pass will send.
            with self._wrapped.no_sync() if self._wrapped is not None else nullcontext():
                for part in early:
                    self._scaler.scale(part()).backward()
            self._scaler.scale(last()).backward()

    def update(self, learning_rate: float) -> Update:
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_gradient_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        scale = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        average_over_ranks(self._statistics)
        next_scale = self._scaler.get_scale()
        skipped = next_scale < scale
        if skipped and scale < 1:
            raise OctoscaleError(
                f"gradients overflow fp16 even at a loss scale of {scale:g}: lower optimizer.learning_rate, or set "
                "precision=bf16 or fp32, and start again to go on from the last commit"
            )
        return Update(float(norm), skipped, next_scale if self._scaler.is_enabled() else None)

    def whole(self) -> AbstractContextManager[None]:
        return nullcontext()

    def state_dict(self) -> dict[str, Any]:
        return {**replicated_state(self._network, self._optimizer), "scaler": scaler_state(self._scaler)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        load_replicated_state(self._network, self._optimizer, state)
        load_scaler_state(self._scaler, state["scaler"])
