"""Real gloo processes for tests: one function on every rank, its results back, its traceback on failure."""

import gc
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from octoscale.distributed.world import World

TIMEOUT_SECONDS = 180


def loopback() -> str:
    """The name of the loopback interface, which gloo is to use."""
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def on_ranks(
    world_size: int, function: Callable[..., Any], *arguments: Any, timeout_seconds: float = TIMEOUT_SECONDS
) -> list[Any]:
    """``function(world, *arguments)`` in `world_size` new processes; the ranks' results, in order.

    The function is a module's own, its arguments and results are picklable.
    """
    with tempfile.TemporaryDirectory() as folder:
        processes = multiprocessing.start_processes(
            _rank, (world_size, function, arguments, folder), nprocs=world_size, join=False, start_method="spawn"
        )
        try:
            deadline = time.monotonic() + timeout_seconds
            # join() returns False whenever one process has ended and another has not.
            while not processes.join(timeout=max(0.0, deadline - time.monotonic())):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{function.__name__} on {world_size} ranks took over {timeout_seconds} s")
        finally:
            for process in processes.processes:
                process.kill()
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(world_size)]


def _rank(rank: int, world_size: int, function: Callable[..., Any], arguments: tuple[Any, ...], folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = loopback()
    torch.set_num_threads(1)
    world = World(rank, rank, world_size, world_size)
    if world_size > 1:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/rendezvous",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=TIMEOUT_SECONDS),
        )
    try:
        torch.save(function(world, *arguments), Path(folder, f"{rank}.pt"))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        if world_size > 1:
            # A caught error's frames hold the group; gloo's threads do not survive the end of the interpreter.
            gc.collect()
            dist.destroy_process_group()
