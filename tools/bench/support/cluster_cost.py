"""What the rest of a cluster must deliver for the steps of `cost_model`: images, plans, commits."""

import math
from dataclasses import dataclass

from support.cost_model import StepCost, checkpoint_bytes, state_bytes
from support.hardware import Hardware
from support.network_cost import NetworkCost

IMAGE_BYTES = 4_500
PART_BYTES = 8 * 2**20
DECODED_PER_CORE = 8_500
PLAN_BYTES_PER_IMAGE = 33.4
PLAN_SECONDS_PER_IMAGE = 2.9e-7


@dataclass(frozen=True)
class AroundCost:
    """What the rest of a cluster must deliver for a rate of steps. Measured rates: docs/benchmarks.md, docs/data.md.

    Attributes:
        cores_per_rank: that decode images, at 8,500 images/s each (one worker).
        read_bytes_per_second: of a node's disk, 4.5 kB per image.
        gets_per_second: of all nodes together while each fetches the whole data set within an epoch, in ranges of
            8 MiB: the first epoch of `resident`, every one of `windowed` (an upper bound: at four nodes 0.93 of it).
        fetched_bytes_per_second: the same in bytes.
        plan_bytes, plan_seconds: one plan of an epoch, once per node.
        epoch_seconds: how long the epoch lasts for which the next plan must be ready.
    """

    cores_per_rank: float
    read_bytes_per_second: float
    gets_per_second: float
    fetched_bytes_per_second: float
    plan_bytes: float
    plan_seconds: float
    epoch_seconds: float


def around_cost(step: StepCost, hardware: Hardware, *, images: int) -> AroundCost:
    """For a data set of `images`."""
    nodes = math.ceil(step.ranks / hardware.per_node)
    epoch = images / step.images_per_second
    fetched = nodes * images * IMAGE_BYTES / epoch
    return AroundCost(
        cores_per_rank=step.images_per_second / step.ranks / DECODED_PER_CORE,
        read_bytes_per_second=step.images_per_second * IMAGE_BYTES / nodes,
        gets_per_second=fetched / PART_BYTES,
        fetched_bytes_per_second=fetched,
        plan_bytes=images * PLAN_BYTES_PER_IMAGE,
        plan_seconds=images * PLAN_SECONDS_PER_IMAGE,
        epoch_seconds=epoch,
    )


@dataclass(frozen=True)
class CommitCost:
    """One commit.

    Attributes:
        bytes: of all parts; each rank writes 1/W of them.
        stall_seconds: if a step waits only for the copy of a rank's whole state to host memory.
        puts: parts of W ranks, torch's metadata, the manifest, the commit point.
    """

    bytes: int
    stall_seconds: float
    puts: int


def commit_cost(network: NetworkCost, hardware: Hardware, *, ranks: int) -> CommitCost:
    stall = state_bytes(network) / hardware.host_bytes_per_second
    return CommitCost(checkpoint_bytes(network), stall, ranks + 3)
