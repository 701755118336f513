"""The same global batch on one rank and on several: images per second, one thread per rank.

    python tools/bench/scaling.py [--ranks 1 2] [--batch 64] [--engine ddp | deepspeed]

Prints JSON. Ranks are gloo processes on this machine, as torchrun would start them. The numbers of ranks take
turns, so that a busy machine slows all; efficiency is images per second ÷ (ranks × those of the first).
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from support.measure import describe_machine

import octoscale
from octoscale.config import Config, parse_config
from octoscale.data.loader import Batch
from octoscale.distributed.world import World, connected
from octoscale.step import training_step
from octoscale.train import build_engine, build_network


def run_config(arguments: argparse.Namespace) -> Config:
    values: dict[str, Any] = {
        "directory": "unused", "data": {"url": "unused"}, "global_batch_size": arguments.batch, "steps": 1,
        "model": {"name": arguments.model}, "engine": arguments.engine,
        "micro_batch_size": arguments.micro_batch,
    }  # fmt: skip
    return parse_config(values, source="of the benchmark")


def rank_process(rank: int, ranks: int, arguments: argparse.Namespace, folder: str) -> None:
    """One rank: a warm-up step, then timed ones; rank 0 writes the seconds of each down."""
    torch.set_num_threads(1)
    os.environ.update(GLOO_SOCKET_IFNAME="lo", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(arguments.port))
    config, world = run_config(arguments), World(rank, rank, ranks, ranks)
    with connected(world, timeout_seconds=300, alone_too=arguments.engine == "deepspeed"):
        engine = build_engine(config, build_network(config, world), world)
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (arguments.batch, 112, 112, 3), dtype=torch.uint8, generator=generator)
        rows = torch.arange(arguments.batch).chunk(ranks)[rank]
        batch = Batch(images[rows].permute(0, 3, 1, 2), rows // 2, rows)
        seconds = []
        for number in range(arguments.steps + 1):
            world.barrier()
            started = time.perf_counter()
            training_step(batch, engine, config.step, world, seed=0, epoch=0, learning_rate=1e-4)
            world.barrier()
            if number:
                seconds.append(time.perf_counter() - started)
    if rank == 0:
        Path(folder, "seconds.json").write_text(json.dumps(seconds))


def seconds_of_steps(ranks: int, arguments: argparse.Namespace) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(rank_process, (ranks, arguments, folder), nprocs=ranks, start_method="spawn")
        seconds: list[float] = json.loads(Path(folder, "seconds.json").read_text())
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--engine", choices=["ddp", "deepspeed"], default="ddp")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--micro-batch", type=int, help="images in a rank's network at a time")
    parser.add_argument("--steps", type=int, default=5, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=29555)
    arguments = parser.parse_args()

    turns: dict[int, list[float]] = {ranks: [] for ranks in arguments.ranks}
    for _ in range(arguments.rounds):
        for ranks, medians in turns.items():
            medians.append(statistics.median(seconds_of_steps(ranks, arguments)))
    first = arguments.ranks[0]
    speed = {ranks: arguments.batch / statistics.median(medians) for ranks, medians in turns.items()}
    # Round by round: both were slowed alike.
    efficiency = {
        ranks: statistics.median(
            alone * first / (own * ranks) for alone, own in zip(turns[first], medians, strict=True)
        )
        for ranks, medians in turns.items()
    }
    result = {
        "model": arguments.model,
        "engine": arguments.engine,
        "global_batch": arguments.batch,
        "images_per_second": {ranks: round(value, 1) for ranks, value in speed.items()},
        "efficiency": {ranks: round(value, 3) for ranks, value in efficiency.items()},
        "rounds": arguments.rounds,
        "versions": {"octoscale": octoscale.__version__, "torch": torch.__version__},
        "machine": {**describe_machine(torch.device("cpu")), "threads": 1},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
