"""Every engine, any number of ranks, any chunks: the gradients of one process that takes the whole batch at once."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from octoscale.distributed.ddp_engine import DdpEngine
from octoscale.distributed.deepspeed_config import deepspeed_config
from octoscale.distributed.deepspeed_engine import DeepSpeedEngine
from octoscale.distributed.engine import Engine, Update
from octoscale.distributed.world import World, connected
from octoscale.models import FaceNetwork, set_training
from octoscale.optimizer import OptimizerConfig, build_optimizer
from octoscale.step import StepConfig, StepResult, training_step
from tests.distributed.brute_force import (
    Gradients,
    brute_force,
    part_of,
    rows_together,
    small_batch,
    small_network,
)
from tests.distributed.ranks import on_ranks

BATCH = 24
SEED, EPOCH = 3, 3


@dataclass(frozen=True)
class Case:
    """`stage` None is DDP, in fp64; a number is DeepSpeed's ZeRO stage, in fp32."""

    stage: int | None
    micro_batch_size: int | None
    batch_norm: Any = "frozen"
    dropout: float = 0.1
    precision: Any = "fp32"
    max_gradient_norm: float | None = None
    # At which some triplets are active and some are not.
    margin: float = 0.1

    @property
    def step(self) -> StepConfig:
        return StepConfig.model_validate(
            {
                "micro_batch_size": self.micro_batch_size,
                "augment": {"flip_probability": 0.0},
                "degrade": {"resolutions": [6, 10]},
                "loss": {"margin": self.margin},
            }
        )


# Chunks that divide no rank's part evenly, chunks of one pair, and one chunk.
CASES = [
    *(Case(None, micro) for micro in (None, 2, 5)),
    *(Case(stage, micro) for stage in (0, 1, 2, 3) for micro in (None, 5)),
    # So few active triplets that most chunks of one pair need no second pass, and ranks differ in their number.
    *(Case(stage, 2, dropout=0.0, margin=0.0) for stage in (None, 0, 1, 2, 3)),
    # Batch statistics; two images of 4 × 4 features are few, and fp32 is no judge of them.
    *(Case(None, micro, policy, dropout=0.0) for policy in ("sync", "chunk") for micro in (None, 5)),
    *(Case(stage, 5, "sync", dropout=0.0) for stage in (1, 3)),
    *(Case(stage, 5, precision="bf16") for stage in (None, 0, 2, 3)),
]


class Watched:
    """An engine that shows the gradients it would update with, whole."""

    def __init__(self, engine: Engine, network: FaceNetwork, *, partitioned: bool) -> None:
        self._engine = engine
        self._network = network
        self._partitioned = partitioned
        self.gradients: Gradients = {}
        self.parts = 0

    @property
    def embedding_is_collective(self) -> bool:
        return self._engine.embedding_is_collective

    def embed(self, images: Tensor) -> Tensor:
        return self._engine.embed(images)

    def backward(self, parts: Sequence[Callable[[], Tensor]], *, second_pass: bool) -> None:
        self.parts = len(parts)
        self._engine.backward(parts, second_pass=second_pass)

    def update(self, learning_rate: float) -> Update:
        for name, parameter in self._network.named_parameters():
            self.gradients[name] = whole_gradient(parameter) if self._partitioned else parameter.grad.clone()
        return self._engine.update(learning_rate)

    def whole(self) -> AbstractContextManager[None]:
        return self._engine.whole()

    def state_dict(self) -> dict[str, Any]:
        return self._engine.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._engine.load_state_dict(state)


def whole_gradient(parameter: Tensor) -> Tensor:
    from deepspeed.utils import safe_get_full_grad

    gradient: Tensor = safe_get_full_grad(parameter)
    return gradient.clone()


def engine_of(case: Case, world: World, optimizer: dict[str, Any]) -> tuple[Engine, FaceNetwork]:
    network = small_network(case.dropout)
    if case.stage is None and case.precision == "fp32":
        network = network.double()
    set_training(network, case.batch_norm, world.group)
    built = build_optimizer(network.parameters(), OptimizerConfig.model_validate(optimizer))
    clip = case.max_gradient_norm
    if case.stage is None:
        return DdpEngine(network, built, world, precision=case.precision, max_gradient_norm=clip), network
    values = deepspeed_config(
        {"zero_optimization": {"stage": case.stage}}, {}, global_batch_size=BATCH,
        rank_batch_size=BATCH // world.world_size, precision=case.precision, max_gradient_norm=clip,
    )  # fmt: skip
    return DeepSpeedEngine(network, built, world, values), network


def step_of(engine: Engine, case: Case, world: World, epoch: int = EPOCH) -> StepResult:
    batch = part_of(small_batch(BATCH), world.rank, world.world_size)
    return training_step(batch, engine, case.step, world, seed=SEED, epoch=epoch, learning_rate=0.1)


def gradients_of_every_case(world: World) -> list[dict[str, Any]]:
    found = []
    with connected(world, timeout_seconds=170, alone_too=True):
        for case in CASES:
            engine, network = engine_of(case, world, {"name": "sgd", "momentum": 0})
            watched = Watched(engine, network, partitioned=case.stage is not None)
            result = step_of(watched, case, world)
            running = {name: value.clone() for name, value in network.named_buffers() if "running" in name}
            found.append({"result": result, "gradients": watched.gradients, "running": running, "parts": watched.parts})
    return found


def expected_of(case: Case, world_size: int) -> tuple[float, Gradients, dict[str, Tensor]]:
    network = small_network(case.dropout).double()
    set_training(network, "frozen" if case.batch_norm == "frozen" else "chunk")
    together = rows_together(BATCH, world_size, case.micro_batch_size, synchronised=case.batch_norm == "sync")
    loss, gradients = brute_force(network, small_batch(BATCH), together, case.step, seed=SEED, epoch=EPOCH)
    return loss, gradients, {name: value for name, value in network.named_buffers() if "running" in name}


@pytest.mark.parametrize(
    "world_size", [1, 2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_gradients_equal_those_of_one_process_on_the_whole_batch(world_size: int) -> None:
    ranks = on_ranks(world_size, gradients_of_every_case)
    for number, case in enumerate(CASES):
        loss, gradients, running = expected_of(case, world_size)
        # fp64, and sums of a few thousand products in another order; in fp32 the sums are over 48 images × 16 places
        # × 75 pixels, and errors add up like a random walk: 240 × 6e-8 = 1.4e-5, with room. A direction is off by
        # the square of that. Losses are told over the ranks in fp32.
        # bf16 keeps 8 bits of each factor, and some gradients are differences of sums.
        exact = (1e-10, 1e-12) if case.stage is None else (1e-4, 1e-7)
        scale_tolerance, direction_tolerance = exact if case.precision == "fp32" else (0.15, 0.03)
        if case.margin == 0 and world_size > 1:
            parts = [rank[number]["parts"] for rank in ranks]
            chunks = BATCH // world_size // 2
            assert (len(set(parts)) > 1 and min(parts) < chunks) or case.stage == 3, parts
            assert case.stage != 3 or parts == [chunks] * world_size, "ZeRO 3 communicates in every forward pass"
        for rank in ranks:
            found = rank[number]
            assert found["result"].loss == pytest.approx(loss, rel=1e-5 if case.precision == "fp32" else 0.01), case
            active = [term.active_fraction for term in found["result"].terms.values()]
            assert 0 < sum(active) < 4, "margins at which all or no triplets count test nothing"
            assert found["gradients"].keys() == gradients.keys()
            for name, expected in gradients.items():
                gradient = found["gradients"][name].double()
                scale = gradient.norm() / expected.norm()
                direction = (gradient * expected).sum() / (gradient.norm() * expected.norm())
                assert float(scale) == pytest.approx(1, abs=scale_tolerance), (case, name)
                assert float(direction) == pytest.approx(1, abs=direction_tolerance), (case, name)
            norm = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm()
            assert found["result"].gradient_norm == pytest.approx(float(norm), rel=scale_tolerance), case
            if case.batch_norm != "chunk" or world_size == 1:
                for name, value in running.items():
                    torch.testing.assert_close(found["running"][name].double(), value, rtol=1e-5, atol=1e-6)
            for name, value in found["running"].items():
                assert torch.equal(value, ranks[0][number]["running"][name]), (case, name)


# Commits go from engine to engine, and from one number of ranks to another.

# The norm of the gradient is several times the clip.
ENGINES = [Case(stage, 5, max_gradient_norm=0.1) for stage in (None, 0, 1, 2, 3)]
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "adamw", "weight_decay": 0.01, "learning_rate": 0.1},
    {"name": "sgd", "weight_decay": 0.01, "learning_rate": 0.1},
    {"name": "sgd", "momentum": 0, "learning_rate": 0.1},
    {"name": "adagrad", "learning_rate": 0.1},
]

State = dict[str, Any]


def trained(
    world: World, states: list[list[State]], first: int, steps: int
) -> list[list[tuple[State | None, State, list[StepResult]]]]:
    """For each optimizer and engine: what it was loaded with, as it tells it again; its state at the end; the steps."""
    with connected(world, timeout_seconds=170, alone_too=True):
        return [
            [
                trained_by(case, world, optimizer, states[row][column] if states else None, first, steps)
                for column, case in enumerate(ENGINES)
            ]
            for row, optimizer in enumerate(OPTIMIZERS)
        ]


def trained_by(
    case: Case, world: World, optimizer: dict[str, Any], state: State | None, first: int, steps: int
) -> tuple[State | None, State, list[StepResult]]:
    engine, _ = engine_of(case, world, optimizer)
    told_again = None
    if state is not None:
        # The ranks share what they are given, and an optimizer keeps the step it is given as its own.
        state = copy.deepcopy(state)
        engine.load_state_dict(in_precision(state, torch.float64) if case.stage is None else state)
        told_again = in_precision(engine.state_dict(), torch.float32)
    results = [step_of(engine, case, world, epoch=first + step) for step in range(steps)]
    return told_again, in_precision(engine.state_dict(), torch.float32), results


def in_precision(state: Any, dtype: torch.dtype) -> Any:
    if isinstance(state, dict):
        return {key: in_precision(value, dtype) for key, value in state.items()}
    # A copy: the engine goes on with its own.
    return state.detach().clone().to(dtype) if isinstance(state, Tensor) else state


def assert_states(found: Any, expected: Any, tolerance: float, where: str = "") -> None:
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_states(found[key], value, tolerance, f"{where}.{key}")
    elif isinstance(expected, Tensor):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, msg=lambda text: f"{where}: {text}")
    elif isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert_states(one, other, tolerance, where)
    else:
        assert found == expected, where


@pytest.mark.slow
def test_any_engine_goes_on_from_any_others_state_on_another_number_of_ranks() -> None:
    # Two steps on two ranks, in DDP and ZeRO 0 to 3; then each engine gets another's state, on three ranks.
    first = on_ranks(2, trained, [], 0, 2)[0]
    saved = [[state for _, state, _ in engines] for engines in first]
    others = [states[2:] + states[:2] for states in saved]
    ranks = on_ranks(3, trained, others, 2, 1)

    for row, optimizer in enumerate(OPTIMIZERS):
        (_, expected, results), *_ = first[row]
        assert all(result.gradient_norm > 0.2 for result in results), "nothing is clipped"
        for state in saved[row][1:]:
            # Adam divides a small gradient by its own size: fp32's rounding of it may be a thousandth of a weight.
            assert_states(state, expected, 1e-3, optimizer["name"])
        for rank in ranks:
            for told_again, after, _ in rank[row]:
                assert told_again is not None
                assert_states(after, ranks[0][row][0][1], 1e-3, optimizer["name"])
            for (told_again, _, _), state in zip(rank[row], others[row], strict=True):
                assert_states(told_again, state, 0.0, optimizer["name"])
