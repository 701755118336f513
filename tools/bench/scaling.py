"""How much faster two ranks are than one, each with one thread.

    python tools/bench/scaling.py [--batch 64] [--ranks 1 2] [--rounds 3] [--steps 3]

Prints JSON: images per second of the whole step (high and low, loss, gradients, optimizer) by DDP over gloo, at one
global batch, and the efficiency: images per second ÷ (ranks × those of one rank). The numbers of ranks take turns.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from support.measure import describe_machine
from support.training import SIZE, engine_of, random_batch

import octoscale
from octoscale.data.loader import Batch
from octoscale.distributed.world import World
from octoscale.models import load
from octoscale.step import StepConfig, training_step


def rank_of(
    rank: int, ranks: int, model: str, batch_size: int, micro_batch_size: int | None, steps: int, folder: str
) -> None:
    """One rank: a warm-up, then `steps` steps; rank 0 writes their seconds."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    world = World(rank, rank, ranks, ranks)
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    torch.manual_seed(0)
    engine = engine_of(load(model), world)
    whole = random_batch(batch_size)
    high, identities, sample_ids = (
        rows.chunk(ranks)[rank] for rows in (whole.high, whole.identities, whole.sample_ids)
    )
    batch = Batch(high, identities, sample_ids)
    config = StepConfig(micro_batch_size=micro_batch_size)
    seconds = []
    for number in range(steps + 1):
        world.barrier()
        started = time.perf_counter()
        training_step(batch, engine, config, world, seed=0, epoch=number, learning_rate=1e-6)
        world.barrier()
        seconds.append(time.perf_counter() - started)
    if rank == 0:
        Path(folder, "seconds.json").write_text(json.dumps(seconds[1:]))
    if ranks > 1:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--batch", type=int, default=64, help="global batch, the same for any number of ranks")
    parser.add_argument("--micro", type=int, default=16, help="micro_batch_size; 0: one pass")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=3, help="steps of each group of ranks, after one to warm up")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    machine = describe_machine(torch.device("cpu")) | {"threads": "1 per rank"}
    seconds: dict[int, list[float]] = {ranks: [] for ranks in arguments.ranks}
    for _ in range(arguments.rounds):
        for ranks in arguments.ranks:
            with tempfile.TemporaryDirectory() as folder:
                settings = (ranks, arguments.model, arguments.batch, arguments.micro or None, arguments.steps, folder)
                multiprocessing.start_processes(rank_of, settings, nprocs=ranks, start_method="spawn")
                seconds[ranks] += json.loads(Path(folder, "seconds.json").read_text())
    rates = {ranks: arguments.batch / statistics.median(values) for ranks, values in seconds.items()}
    one = rates[min(rates)] / min(rates)
    report = {
        "model": arguments.model,
        "image_size": SIZE,
        "global_batch_size": arguments.batch,
        "micro_batch_size": arguments.micro or None,
        "images_per_second": {str(ranks): round(rate, 2) for ranks, rate in rates.items()},
        "efficiency": {str(ranks): round(rate / (ranks * one), 3) for ranks, rate in rates.items()},
        "steps_measured": {str(ranks): len(values) for ranks, values in seconds.items()},
        "versions": {
            "octoscale": octoscale.__version__, "torch": torch.__version__, "python": platform.python_version(),
        },
        "machine": machine,
    }  # fmt: skip
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
