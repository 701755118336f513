"""DeepSpeed: the optimizer's state, the gradients and the parameters partitioned over the ranks (ZeRO 0 to 3)."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from octoscale.distributed.deepspeed_config import zero_stage
from octoscale.distributed.engine import (
    Update,
    average_over_ranks,
    gradient_scaler,
    group_settings,
    load_replicated_state,
    replicated_state,
    scaler_state,
)
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.models.batch_norm import meets_other_ranks, running_statistics, statistics_kept


class DeepSpeedEngine:
    """The step by DeepSpeed, with octoscale's own optimizer, precision, learning rate and checkpoints.

    Needs a process group, in a single process too.

    Args:
        network: on `world.device`, in fp32, in training mode.
        optimizer: over the network's trained parameters, in one group.
        world: all ranks.
        config: what `deepspeed_config` gave.

    Raises:
        OctoscaleError: DeepSpeed is not installed.
    """

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, world: World, config: dict[str, Any]
    ) -> None:
        self._deepspeed = _import_deepspeed(world)
        self._network = network
        self._world = world
        self._stage = zero_stage(config)
        self._max_gradient_norm = config["gradient_clipping"] or float("inf")
        # DeepSpeed puts its partitions in the place of the parameters; the rest is what a commit tells.
        (self._group,) = group_settings(optimizer)
        self._state_keys = _state_keys(optimizer)
        self._statistics = running_statistics(network) if world.world_size > 1 else []
        self._names = {parameter: name for name, parameter in network.named_parameters()}
        # It sends weights as flat bytes. PyTorch's annotations leave this form out.
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self._engine, self._optimizer, _, _ = self._deepspeed.initialize(
            model=network, optimizer=optimizer, config=config
        )
        self.embedding_is_collective = self._stage == 3 or meets_other_ranks(network)

    def embed(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self._engine(images)
        return embeddings

    def backward(self, parts: Sequence[Callable[[], Tensor]], *, second_pass: bool) -> None:
        if not second_pass:
            (part,) = parts
            self._engine.backward(part())
            return
        *early, last = parts
        with statistics_kept(self._network):
            if self._stage == 0:  # which has no coalesce_grad_reduction
                with self._engine.no_sync():
                    for part in early:
                        self._engine.backward(part())
                self._engine.backward(last())
                return
            # From stage 2 on, partitions rule no_sync out. Also around a single part: another rank may have more, and
            # gradients are reduced in another order here than during a backward pass.
            with self._engine.coalesce_grad_reduction():
                for part in parts:
                    self._engine.backward(part())

    def update(self, learning_rate: float) -> Update:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._group["lr"] = learning_rate
        norm: float | None = None
        if self._stage == 0:
            # Left to DeepSpeed it would be clipped again, to no effect, and not be told.
            norm = float(nn.utils.clip_grad_norm_(list(self._names), self._max_gradient_norm))
        self._engine.step()
        average_over_ranks(self._statistics)
        if norm is None:
            norm = float("inf") if self._optimizer.overflow else float(self._engine.get_global_grad_norm())
        return Update(norm)

    @contextmanager
    def whole(self) -> Iterator[None]:
        parameters = list(self._names) if self._stage == 3 else []
        with self._deepspeed.zero.GatheredParameters(parameters, enabled=bool(parameters)):
            yield

    def state_dict(self) -> dict[str, Any]:
        # Kept for a run that goes on in fp16, under DDP.
        scaler = scaler_state(gradient_scaler(self._world.device, "fp32"))
        if self._stage == 0:
            return {**replicated_state(self._network, self._optimizer), "scaler": scaler}
        with self.whole():
            model = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        self._create_optimizer_state()
        trained = [parameter for parameter in self._names if parameter.requires_grad]
        optimizer: dict[str, Any] = {
            "state": {self._names[parameter]: self._state_of(parameter) for parameter in trained},
            "param_groups": [{**self._group, "params": [self._names[parameter] for parameter in trained]}],
        }
        if not self._state_keys:
            optimizer["state"] = {}
        return {"model": model, "optimizer": optimizer, "scaler": scaler}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._stage == 0:
            load_replicated_state(self._network, self._optimizer, state)
            return
        if self._stage == 3:
            for parameter, name in self._names.items():
                with self._deepspeed.zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
                    parameter.copy_(state["model"][name])
            for name, buffer in self._network.named_buffers():
                if name in state["model"]:  # others are not persistent
                    buffer.copy_(state["model"][name])
        else:
            self._network.load_state_dict(state["model"])
        # The partitions that are trained, from the weights that are computed with.
        self._optimizer.refresh_fp32_params()
        self._create_optimizer_state()
        for parameter, name in self._names.items():
            for key, value in state["optimizer"]["state"].get(name, {}).items():
                self._set_state(parameter, key, value)

    def _partitions(self) -> list[Tensor]:
        """This rank's flat parts of all parameters, to which the optimizer's state belongs."""
        attribute = "fp32_partitioned_groups_flat" if self._stage == 3 else "single_partition_of_fp32_groups"
        partitions: list[Tensor] = getattr(self._optimizer, attribute)
        return partitions

    def _create_optimizer_state(self) -> None:
        """The state as it is before the first step, where there was none yet."""
        state = self._optimizer.optimizer.state
        for partition in self._partitions():
            for key, is_scalar in self._state_keys.items():
                if key not in state[partition]:
                    state[partition][key] = torch.tensor(0.0) if is_scalar else torch.zeros_like(partition)
        if self._stage < 3 and self._state_keys:
            self._optimizer._lazy_init_hp_params_optimizer_state()

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_optimizer_state

        steps = self._optimizer.optimizer.state[self._partitions()[0]]
        return {
            key: steps[key].detach().clone() if is_scalar else safe_get_full_optimizer_state(parameter, key)
            for key, is_scalar in self._state_keys.items()
        }

    def _set_state(self, parameter: nn.Parameter, key: str, value: Tensor) -> None:
        from deepspeed.utils import (
            safe_get_local_fp32_param,
            safe_set_full_optimizer_state,
            safe_set_local_optimizer_state,
        )

        if self._state_keys[key]:
            # Number of steps: one for all, and no setter of DeepSpeed's reaches it.
            for partition in self._partitions():
                self._optimizer.optimizer.state[partition][key].copy_(value)
        elif self._stage < 3:
            safe_set_full_optimizer_state(parameter, value.to(parameter.device), key)
        else:
            # Its setter of whole values fails where the ranks do not divide the elements.
            size = safe_get_local_fp32_param(parameter).numel()
            padded = value.new_zeros(size * self._world.world_size)
            padded[: value.numel()] = value.flatten()
            own = padded[self._world.rank * size : (self._world.rank + 1) * size]
            safe_set_local_optimizer_state(parameter, own.to(parameter.device), key)


def _state_keys(optimizer: torch.optim.Optimizer) -> dict[str, bool]:
    """The keys of an optimizer's state per parameter, and whether each is one number instead of a tensor."""
    if isinstance(optimizer, torch.optim.AdamW):
        return {"step": True, "exp_avg": False, "exp_avg_sq": False}
    if isinstance(optimizer, torch.optim.Adagrad):
        return {"step": True, "sum": False}
    assert isinstance(optimizer, torch.optim.SGD)
    return {"momentum_buffer": False} if optimizer.defaults["momentum"] else {}


def _import_deepspeed(world: World) -> Any:
    # DeepSpeed reads both from the environment, and guesses the first where it is not set.
    os.environ.setdefault("DS_ACCELERATOR", world.device.type)
    os.environ.setdefault("LOCAL_RANK", str(world.local_rank))
    try:
        import deepspeed
        import deepspeed.ops
        from deepspeed.utils.logging import logger
    except ImportError as error:
        raise OctoscaleError(
            f"engine=deepspeed needs DeepSpeed ({error}): pip install 'octoscale[cluster]', or set engine=ddp"
        ) from error
    logger.setLevel(logging.WARNING)
    # PyTorch's, of its own functions, which DeepSpeed calls.
    warnings.filterwarnings(
        "ignore", "`torch.distributed.(all_gather_into|reduce_scatter)_tensor` is dep", FutureWarning
    )
    # On CPUs it would compile an operation that inference alone uses; a compilation that is killed leaves a lock,
    # and every later process waits for it in vain.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
