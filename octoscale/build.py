"""A run's network, its teacher and its engine, from the configuration."""

import torch

from octoscale.config import Config
from octoscale.data.plan import rank_batch_size
from octoscale.distillation import Teacher
from octoscale.distributed.ddp_engine import DdpEngine
from octoscale.distributed.deepspeed_config import deepspeed_config
from octoscale.distributed.deepspeed_engine import DeepSpeedEngine
from octoscale.distributed.engine import Engine
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.models import FaceNetwork, check_compiler, compile_backbone, recompute_activations, set_training
from octoscale.optimizer import build_optimizer
from octoscale.trained import configured_network


def build_network(config: Config, world: World) -> FaceNetwork:
    """The configured network in training mode, on this rank's device."""
    network = configured_network(config, config.model.weights)
    network.to(world.device)
    # PyTorch's annotations leave this form out.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    set_training(network, config.model.batch_norm, world.group)
    if config.model.activation_checkpointing:
        recompute_activations(network)
    return network


def build_teacher(config: Config, world: World) -> Teacher | None:
    """The network as it is before the run, for `config.distillation`."""
    if config.distillation is None:
        return None
    network = configured_network(config, config.model.weights)
    if config.model.compile:
        compile_backbone(network)
    return Teacher(network, world.device, config.precision)


def build_engine(config: Config, network: FaceNetwork, world: World) -> Engine:
    """The engine that trains `network` with the configured optimizer."""
    optimizer = build_optimizer(network.parameters(), config.optimizer)
    clip = config.optimizer.max_gradient_norm
    if config.engine == "ddp":
        return DdpEngine(network, optimizer, world, precision=config.precision, max_gradient_norm=clip)
    settings = {
        "optimizer.name": config.optimizer.name, "schedule.name": config.schedule.name, "precision": config.precision,
    }  # fmt: skip
    values = deepspeed_config(
        config.deepspeed or {}, settings, global_batch_size=config.global_batch_size,
        rank_batch_size=rank_batch_size(config.global_batch_size, world.world_size),
        precision=config.precision, max_gradient_norm=clip,
    )  # fmt: skip
    return DeepSpeedEngine(network, optimizer, world, values)


def check_compilers(world: World) -> None:
    """An error on every rank where torch.compile does not work for one of them: none waits for one that cannot start.

    Raises:
        OctoscaleError: what is missing, and on which rank.
    """
    problem = None
    try:
        check_compiler(world.device)
    except OctoscaleError as error:
        problem = str(error)
    for rank, found in enumerate(world.gather(problem)):
        if found is not None:
            raise OctoscaleError(found if world.world_size == 1 else f"rank {rank}: {found}")
