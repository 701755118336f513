"""What torch.compile does to a step of two passes: its time, the time to compile, and how far the numbers move.

    python tools/bench/compile.py [--model mobilefacenet] [--batch 64] [--micro 16] [--rounds 5]

Prints JSON. Two networks of the same weights, one compiled, take the same steps in turns; read the ratio. The margin is
so large that every chunk has a gradient. Differences are relative to the norm: of an embedding, of a parameter's
gradient, of a parameter. Set TORCHINDUCTOR_CACHE_DIR to an empty folder, or what an earlier run has compiled is found
again.
"""

import argparse
import json
import statistics

import torch
from support.measure import describe_machine, ratio, seconds_of, take_turns
from support.training import engine_of, random_batch
from torch import Tensor

import octoscale
from octoscale.data.loader import Batch
from octoscale.degrade import DegradeConfig
from octoscale.distributed.world import World
from octoscale.loss.config import LossConfig
from octoscale.models import compile_backbone, load
from octoscale.step import StepConfig, training_step

CPU = torch.device("cpu")


class Trainer:
    """A network of its own, and steps on one batch."""

    def __init__(self, model: str, batch: Batch, micro_batch_size: int, *, compiled: bool) -> None:
        torch.manual_seed(0)
        self.network = load(model)
        if compiled:
            compile_backbone(self.network)
        self._engine = engine_of(self.network, World())
        self._batch = batch
        self._config = StepConfig(
            micro_batch_size=micro_batch_size, degrade=DegradeConfig(), loss=LossConfig(margin=1e4)
        )

    def step(self) -> None:
        training_step(self._batch, self._engine, self._config, World(), seed=0, epoch=0, learning_rate=1e-4)

    def embed(self, count: int) -> Tensor:
        """Of the first images, with gradient where that is enabled."""
        embeddings: Tensor = self.network(self._batch.high[:count])
        return embeddings

    def gradients(self, count: int) -> list[Tensor]:
        """Of the parameters, for embeddings drawn towards a fixed direction."""
        embeddings = self.embed(count)
        toward = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1))
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return list(torch.autograd.grad((embeddings * toward).sum(), trained))

    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.network.parameters()]


def largest_row(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


def largest(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(
        float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in zip(found, expected, strict=True) if b.norm() > 0
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--batch", type=int, default=64, help="global batch")
    parser.add_argument("--micro", type=int, default=16, help="micro_batch_size")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    machine = describe_machine(CPU)
    batch = random_batch(arguments.batch)
    plain, compiled = (
        Trainer(arguments.model, batch, arguments.micro, compiled=compiled) for compiled in (False, True)
    )
    count = min(arguments.batch, 16)
    embeddings: dict[str, Tensor] = {}

    def without_gradient() -> None:
        with torch.no_grad():
            embeddings["first_pass"] = compiled.embed(count)

    def with_gradient() -> None:
        embeddings["second_pass"] = compiled.embed(count)
        embeddings["second_pass"].sum().backward()

    calls = {"without_gradient": without_gradient, "with_gradient": with_gradient}
    compile_seconds = {name: round(seconds_of(call, CPU), 1) for name, call in calls.items()}
    with torch.no_grad():
        expected = plain.embed(count)
    gradients = largest(compiled.gradients(count), plain.gradients(count))
    steps = {"eager": plain.step, "compiled": compiled.step}
    for step in steps.values():
        step()
    seconds = take_turns(steps, CPU, rounds=arguments.rounds, budget_seconds=600)
    print(
        json.dumps(
            {
                "model": arguments.model,
                "batch": arguments.batch,
                "micro_batch_size": arguments.micro,
                "eager_step_seconds_median": round(statistics.median(seconds["eager"]), 3),
                "compiled_step_seconds_median": round(statistics.median(seconds["compiled"]), 3),
                "eager_over_compiled": ratio(seconds["eager"], seconds["compiled"]),
                "compile_seconds": compile_seconds,
                "rounds": len(seconds["eager"]),
                "embeddings_compiled_to_eager": largest_row(embeddings["first_pass"], expected),
                "embeddings_second_pass_to_first": largest_row(embeddings["second_pass"], embeddings["first_pass"]),
                "gradients_compiled_to_eager": gradients,
                "weights_after_steps": largest(compiled.weights(), plain.weights()),
                "versions": {"octoscale": octoscale.__version__, "torch": torch.__version__},
                "machine": machine,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
