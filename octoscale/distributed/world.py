"""Who this process is among the ranks: one frozen value, passed down."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from octoscale.errors import OctoscaleError


@dataclass(frozen=True)
class World:
    """One process among ``world_size``. Nothing else in octoscale reads RANK and its like."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    side_group: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def group(self) -> dist.ProcessGroup | None:
        """The process group of all ranks; None in a single process."""
        if self.side_group is not None:
            return self.side_group
        return dist.group.WORLD if self.world_size > 1 else None

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier(group=self.group)

    def any(self, flag: bool) -> bool:
        """True on every rank if `flag` is true on one of them."""
        return self.mean([float(flag)])[0] > 0

    def mean(self, values: list[float]) -> list[float]:
        """The mean over all ranks of each value, on every rank."""
        if self.world_size == 1:
            return values
        # fp32 on every device: the sums of a few ranks, for show and for flags.
        total = torch.tensor(values, dtype=torch.float32, device=self.device)
        dist.all_reduce(total, group=self.group)
        return [float(value) for value in (total / self.world_size).tolist()]

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks of `values`, a tensor on this rank's device that may be overwritten."""
        if self.world_size > 1:
            dist.all_reduce(values, group=self.group)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value` (small, picklable), in rank order, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value` (small, picklable), on every rank."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]


def side_channel(world: World, *, timeout_seconds: float) -> World:
    """The same ranks over a gloo group of their own: what one thread says there never mixes with the training's.

    All ranks call it together, and `close_side_channel` at the end.
    """
    if world.world_size == 1:
        return world
    group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))
    return replace(world, device=torch.device("cpu"), side_group=group)


def close_side_channel(world: World) -> None:
    """Destroy the group of `side_channel`, unless that has happened with all the others."""
    if world.side_group is not None and dist.is_initialized():
        dist.destroy_process_group(world.side_group)


def default_device(local_rank: int) -> torch.device:
    """The CUDA device of this local rank, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise OctoscaleError(
            f"local rank {local_rank} has no GPU of its own: this node has {torch.cuda.device_count()}; "
            "start one process per GPU"
        )
    return torch.device("cuda", local_rank)


def world_from_environment() -> World:
    """The world that torchrun describes in the environment; a single process without it."""
    if "RANK" not in os.environ:
        return World(device=default_device(0))
    try:
        rank, local_rank, world_size, local_world_size = (
            int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        )
    except (KeyError, ValueError) as error:
        raise OctoscaleError(
            f"RANK is set, but torchrun's other variables are not usable ({error}); start with torchrun, "
            "or unset RANK for a single process"
        ) from error
    return World(rank, local_rank, world_size, local_world_size, default_device(local_rank))


@contextmanager
def connected(world: World, *, timeout_seconds: float, alone_too: bool = False) -> Iterator[World]:
    """Hold the process group of `world` open: NCCL on GPUs, gloo on CPUs.

    A group that already exists (Ray Train made it) is used and left alone. A single process has one only where
    it is asked for by `alone_too`: DeepSpeed needs it.
    """
    if world.device.type == "cuda":
        # NCCL moves Python objects through the current device.
        torch.cuda.set_device(world.device)
    if (world.world_size == 1 and not alone_too) or dist.is_initialized():
        yield world
        return
    dist.init_process_group(
        "nccl" if world.device.type == "cuda" else "gloo",
        store=dist.HashStore() if world.world_size == 1 else None,
        rank=world.rank,
        world_size=world.world_size,
        timeout=timedelta(seconds=timeout_seconds),
    )
    try:
        yield world
    finally:
        dist.destroy_process_group()
