"""How much of an evaluation is the network's forward pass: all else is reading pixels, degrading, gathering, scoring.

    python tools/bench/evaluate.py [--pairs 6000] [--images 7701] [--model mobilefacenet]

Prints JSON. The pairs are as many as LFW's, of as many distinct images, drawn at random; both modes, five resolutions,
confidence intervals included. `embedded` says how often the network saw an image: once per resolution and image.
"""

import argparse
import json
import time

import numpy as np
import torch
from support.measure import describe_machine
from torch import Tensor, nn

from octoscale.distributed.world import World
from octoscale.evaluate.config import EvaluateConfig
from octoscale.evaluate.evaluation import evaluate
from octoscale.evaluate.protocols.pairs import Listed, Pairs, collect
from octoscale.models import load


class Timed(nn.Module):
    """Counts what the network is given, and its seconds."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seconds, self.images = 0.0, 0

    def forward(self, images: Tensor) -> Tensor:
        _finish(images.device)
        started = time.perf_counter()
        embeddings: Tensor = self.network(images)
        _finish(images.device)
        self.seconds += time.perf_counter() - started
        self.images += len(images)
        return embeddings


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_pairs(pairs: int, images: int) -> Pairs:
    """Pairs, half of them genuine, in which every image comes up."""
    generator = np.random.default_rng(0)
    rows = np.concatenate([np.arange(images), generator.integers(0, images, 2 * pairs - images)])
    generator.shuffle(rows)
    listed = [
        Listed(str(first), str(second), number % 2 == 0, f"pair {number}")
        for number, (first, second) in enumerate(rows.reshape(-1, 2).tolist())
    ]
    return collect(listed, "random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6000)
    parser.add_argument("--images", type=int, default=7701)
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--weights", help="else random ones, which take the same time")
    parser.add_argument("--batch-size", type=int, default=128)
    arguments = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = describe_machine(device)
    network = Timed(load(arguments.model, weights=arguments.weights)).to(device)
    pairs = random_pairs(arguments.pairs, arguments.images)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(pairs.images), 3, 112, 112), dtype=torch.uint8, generator=generator)
    config = EvaluateConfig(pairs="random", images="random", batch_size=arguments.batch_size)
    world = World(device=device)
    # Matrices of the degradation, memory, kernels: once, before the clock runs.
    few = random_pairs(20, 32)
    evaluate(network, few, images[:32], config.model_copy(update={"bootstrap": 0}), world)
    network.seconds, network.images = 0.0, 0

    started = time.perf_counter()
    evaluate(network, pairs, images, config, world)
    seconds = time.perf_counter() - started

    expected = len(pairs.images) * len(config.resolutions)
    print(
        json.dumps(
            {
                "machine": machine,
                "model": arguments.model,
                "pairs": len(pairs),
                "images": len(pairs.images),
                "resolutions": config.resolutions,
                "embedded": network.images,
                "embedded_once_per_resolution": network.images == expected,
                "seconds": round(seconds, 2),
                "forward_seconds": round(network.seconds, 2),
                "forward_share": round(network.seconds / seconds, 4),
                "images_per_second": round(network.images / seconds, 1),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
