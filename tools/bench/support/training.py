"""What the benchmarks of a step train: a network with frozen batch norm, and images without a face."""

import torch

from octoscale.data.loader import Batch
from octoscale.distributed.ddp_engine import DdpEngine
from octoscale.distributed.world import World
from octoscale.models import FaceNetwork, set_training
from octoscale.optimizer import OptimizerConfig, build_optimizer

SIZE = 112


def engine_of(network: FaceNetwork, world: World) -> DdpEngine:
    """The engine that trains `network`, which is changed in place, with AdamW."""
    # PyTorch's annotations leave this form out.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    set_training(network, "frozen")
    return DdpEngine(network, build_optimizer(network.parameters(), OptimizerConfig()), world)


def random_batch(size: int) -> Batch:
    """`size` images, two of each identity: the time of a step does not depend on what is on them."""
    high = torch.randint(0, 256, (size, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    return Batch(high, torch.arange(size // 2).repeat_interleave(2), torch.arange(size))
