"""What the two-pass step costs and saves: time beside a single pass, memory against the global batch.

    python tools/bench/two_pass.py [--batch 128] [--micro-batch 32] [--large 8192]

Prints JSON. Time: the same batch in one pass and in two, in turns; read the ratio. Memory: the peak of the resident
set of a fresh process per global batch, all with one micro batch; the images are random, decoding is not measured.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys

import torch
from support.measure import describe_machine, ratio, take_turns

import octoscale
from octoscale.data.loader import Batch
from octoscale.distributed.ddp_engine import DdpEngine
from octoscale.distributed.world import World
from octoscale.models import load, set_training
from octoscale.optimizer import OptimizerConfig, build_optimizer
from octoscale.step import StepConfig, training_step

CPU = torch.device("cpu")


class Steps:
    """Steps of one network on random images."""

    def __init__(self, model: str) -> None:
        torch.manual_seed(0)
        network = load(model)
        set_training(network, "frozen")
        # PyTorch's annotations leave this form out.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._engine = DdpEngine(network, build_optimizer(network.parameters(), OptimizerConfig()), World())

    def run(self, batch: Batch, micro_batch_size: int | None) -> None:
        config = StepConfig(micro_batch_size=micro_batch_size)
        training_step(batch, self._engine, config, World(), seed=0, epoch=0, learning_rate=1e-4)


def random_batch(size: int) -> Batch:
    """As the loader gives it: uint8, channels-last in memory, two images of each identity."""
    images = torch.randint(0, 256, (size, 112, 112, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    return Batch(images, torch.arange(size) // 2, torch.arange(size))


def peak_resident_bytes(model: str, batch: int, micro_batch: int) -> int:
    """Of a fresh process that makes one step."""
    command = [sys.executable, __file__, "--model", model, "--one-step", str(batch), "--micro-batch", str(micro_batch)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--batch", type=int, default=128, help="of the two that are timed")
    parser.add_argument("--micro-batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", type=int, default=256, help="global batch whose memory is the measure")
    parser.add_argument("--large", type=int, default=8192, help="global batch whose memory is compared with it")
    parser.add_argument("--one-step", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_step:
        Steps(arguments.model).run(random_batch(arguments.one_step), arguments.micro_batch)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return

    steps, batch = Steps(arguments.model), random_batch(arguments.batch)
    calls = {
        "single_pass": lambda: steps.run(batch, None),
        "two_passes": lambda: steps.run(batch, arguments.micro_batch),
    }
    for call in calls.values():
        call()
    seconds = take_turns(calls, CPU, rounds=arguments.rounds, budget_seconds=600)
    peaks = {
        size: peak_resident_bytes(arguments.model, size, arguments.micro_batch)
        for size in (arguments.small, arguments.large)
    }
    result = {
        "model": arguments.model,
        "micro_batch": arguments.micro_batch,
        "time": {
            "batch": arguments.batch,
            **{f"{name}_seconds_median": round(statistics.median(values), 3) for name, values in seconds.items()},
            "two_passes_over_single_pass": ratio(seconds["two_passes"], seconds["single_pass"]),
        },
        "memory": {
            "peak_resident_mib": {size: round(peak / 2**20) for size, peak in peaks.items()},
            "large_over_small": round(peaks[arguments.large] / peaks[arguments.small], 3),
        },
        "versions": {"octoscale": octoscale.__version__, "torch": torch.__version__},
        "machine": describe_machine(CPU),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
