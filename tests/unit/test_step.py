"""One step on one process, against the same thing written out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import octoscale.step
from octoscale.augment import augment
from octoscale.build import build_engine, build_network
from octoscale.config import Config, parse_config
from octoscale.data.loader import Batch
from octoscale.degrade import degrade
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.models import FaceNetwork
from octoscale.step import StepResult, draw_resolutions, training_step
from tests.conftest import SmallRun


def config_of(small_run: SmallRun, **changes: Any) -> Config:
    changes = {"optimizer": {"name": "sgd", "momentum": 0}} | changes
    return parse_config(small_run("run", global_batch_size=8, **changes), source="of the test")


def one_step(config: Config, batch: Batch, *, epoch: int = 2, rate: float = 0.1) -> tuple[StepResult, list[Any]]:
    """The result, and the parameters after it."""
    network = build_network(config, World())
    engine = build_engine(config, network, World())
    result = training_step(batch, engine, config.step, World(), seed=config.seed, epoch=epoch, learning_rate=rate)
    return result, [parameter.detach() for parameter in network.parameters()]


def hardest(anchors: torch.Tensor, others: torch.Tensor, identities: torch.Tensor, margin: float) -> list[torch.Tensor]:
    """Loss of each anchor: its pair's other image, and the nearest image of another identity."""
    losses = []
    for row in range(len(anchors)):
        positive = (anchors[row] - others[row ^ 1]).norm()
        strangers = [other for i, other in enumerate(others) if identities[i] != identities[row]]
        negative = torch.stack([(anchors[row] - stranger).norm() for stranger in strangers]).min()
        losses.append((positive - negative + margin).clamp(min=0))
    return losses


@pytest.mark.parametrize("terms", [["hhh", "hll", "lhh", "lll"], ["hhh"], ["hll", "lll"]])
def test_a_step_is_the_gradient_of_the_octuplet_loss(small_run: SmallRun, batch: Batch, terms: list[str]) -> None:
    changes: dict[str, Any] = {"augment": {"flip_probability": 0.5, "brightness": 0.3}}
    config = config_of(small_run, **changes, loss={"terms": terms, "margin": 1.0})
    result, parameters = one_step(config, batch)

    network = build_network(config, World())
    draws: dict[str, Any] = {"seed": 7, "epoch": 2, "sample_ids": batch.sample_ids.numpy()}
    high = augment(batch.high, config.augment, **draws)
    low = degrade(high, draw_resolutions((7, 14), **draws))
    found = dict(zip("hl", (network(high), network(low)), strict=True))
    by_term = {term: torch.stack(hardest(found[term[0]], found[term[1]], batch.identities, 1.0)) for term in terms}
    loss = torch.stack([losses.mean() for losses in by_term.values()]).sum()
    loss.backward()

    assert result.loss == pytest.approx(loss.item(), rel=1e-5)
    for term, losses in by_term.items():
        assert result.terms[term].loss == pytest.approx(losses.mean().item(), rel=1e-4)
        assert result.terms[term].active_fraction == (losses > 0).double().mean()
    norms = torch.cat(list(found.values())).norm(dim=1)
    assert result.embedding_norm == pytest.approx(norms.mean().item(), rel=1e-5)
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert result.gradient_norm == pytest.approx(torch.cat([g.flatten() for g in gradients]).norm().item(), rel=1e-4)
    for before, after in zip(network.parameters(), parameters, strict=True):
        assert before.grad is not None
        # fp32 sums over 8 × 32 × 32 pixels in another order, of gradients up to the norm.
        torch.testing.assert_close(after, before.detach() - 0.1 * before.grad, rtol=1e-4, atol=1e-5)


def test_a_step_repeated_gives_the_same_bits(small_run: SmallRun, batch: Batch) -> None:
    config = config_of(small_run, augment={"flip_probability": 0.5, "brightness": 0.3})
    first, parameters = one_step(config, batch)
    torch.rand(100)
    second, again = one_step(config, batch)

    assert first == second
    assert all(torch.equal(a, b) for a, b in zip(parameters, again, strict=True))


def test_another_epoch_degrades_the_same_images_otherwise(small_run: SmallRun, batch: Batch) -> None:
    config = config_of(small_run)

    assert one_step(config, batch, epoch=0)[0].loss != one_step(config, batch, epoch=1)[0].loss


def test_the_gradient_norm_is_that_before_clipping(small_run: SmallRun, batch: Batch) -> None:
    free, _ = one_step(config_of(small_run), batch)
    optimizer = {"name": "sgd", "momentum": 0, "max_gradient_norm": free.gradient_norm / 2}
    config = config_of(small_run, optimizer=optimizer)
    start = [parameter.detach().clone() for parameter in build_network(config, World()).parameters()]
    clipped, parameters = one_step(config, batch, rate=1.0)

    assert clipped.gradient_norm == free.gradient_norm
    moved = torch.cat([(a - b).flatten() for a, b in zip(parameters, start, strict=True)])
    assert moved.norm().item() == pytest.approx(free.gradient_norm / 2, rel=1e-3)


def test_frozen_batch_norm_keeps_its_statistics_and_trained_moves_them(small_run: SmallRun, batch: Batch) -> None:
    for mode, moves in (("frozen", False), ("chunk", True)):
        config = config_of(small_run, model={"batch_norm": mode})
        network = build_network(config, World())
        before = {name: value.clone() for name, value in network.named_buffers() if "running" in name}
        engine = build_engine(config, network, World())
        training_step(batch, engine, config.step, World(), seed=7, epoch=0, learning_rate=0.1)
        moved = [not torch.equal(value, before[name]) for name, value in network.named_buffers() if name in before]
        assert moved
        assert all(moved) if moves else not any(moved)


# Which resolution.


def test_every_resolution_is_drawn_equally_often() -> None:
    drawn = draw_resolutions((7, 14, 28), seed=3, epoch=0, sample_ids=np.arange(30_000))

    for resolution in (7, 14, 28):
        # 5 standard deviations of a binomial count.
        assert int((drawn == resolution).sum()) == pytest.approx(10_000, abs=5 * (30_000 * 2 / 9) ** 0.5)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(12)), st.integers(0, 2**63), st.integers(0, 1000))
def test_a_samples_resolution_does_not_depend_on_its_company(order: list[int], seed: int, epoch: int) -> None:
    ids = np.array([3, 1, 4, 15, 92, 65, 35, 89, 79, 32, 38, 46])
    together = draw_resolutions((7, 14, 28), seed=seed, epoch=epoch, sample_ids=ids)

    assert together.dtype == torch.int64
    assert torch.equal(draw_resolutions((7, 14, 28), seed=seed, epoch=epoch, sample_ids=ids[order]), together[order])


# Chunk by chunk.


class Counting:
    """The network's backbone, that counts the images it sees with gradient and without."""

    def __init__(self, network: FaceNetwork) -> None:
        self.with_gradient: list[int] = []
        self.without: list[int] = []
        network.backbone.register_forward_pre_hook(self._count)

    def _count(self, module: nn.Module, arguments: tuple[torch.Tensor]) -> None:
        (self.with_gradient if torch.is_grad_enabled() else self.without).append(len(arguments[0]))


def chunked_step(config: Config, batch: Batch) -> tuple[Counting, StepResult, FaceNetwork]:
    network = build_network(config, World())
    counting = Counting(network)
    engine = build_engine(config, network, World())
    result = training_step(batch, engine, config.step, World(), seed=7, epoch=2, learning_rate=0.1)
    return counting, result, network


def test_a_batch_in_one_chunk_is_embedded_once(small_run: SmallRun, batch: Batch) -> None:
    for micro_batch_size in (None, 8):
        counting, _, _ = chunked_step(config_of(small_run, micro_batch_size=micro_batch_size), batch)
        assert (counting.with_gradient, counting.without) == ([16], [])


def test_chunks_are_embedded_twice_one_at_a_time(small_run: SmallRun, batch: Batch) -> None:
    counting, _, _ = chunked_step(config_of(small_run, micro_batch_size=3, loss={"margin": 100.0}), batch)

    assert counting.without == [6, 6, 4]
    assert counting.with_gradient == [6, 6, 4]


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 7, 8])
def test_with_frozen_batch_norm_the_step_does_not_depend_on_its_chunks(
    small_run: SmallRun, batch: Batch, micro_batch_size: int
) -> None:
    whole, expected = one_step(config_of(small_run), batch)
    found, parameters = one_step(config_of(small_run, micro_batch_size=micro_batch_size), batch)

    assert found.loss == pytest.approx(whole.loss, rel=1e-5)
    assert found.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-4)
    for one, other in zip(parameters, expected, strict=True):
        # fp32, summed in another order.
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_chunk_without_gradient_is_not_embedded_again(
    small_run: SmallRun, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(small_run, micro_batch_size=2, loss={"margin": 100.0})
    original = octoscale.step._loss_and_gradients

    def without_rows(rows: list[int]) -> None:
        def quiet(*arguments: Any) -> Any:
            *found, gradients = original(*arguments)
            gradients[:, rows] = 0
            return *found, gradients

        monkeypatch.setattr(octoscale.step, "_loss_and_gradients", quiet)

    without_rows([0, 1, 4, 5])
    counting, _, _ = chunked_step(config, batch)
    assert (len(counting.without), len(counting.with_gradient)) == (4, 2)

    # Nothing moves: one chunk is run all the same, with which the ranks synchronise.
    without_rows(list(range(8)))
    counting, result, network = chunked_step(config, batch)
    assert (len(counting.without), len(counting.with_gradient)) == (4, 1)
    assert result.gradient_norm == 0
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_running_statistics_see_each_chunk_once(small_run: SmallRun, batch: Batch) -> None:
    config = config_of(small_run, model={"batch_norm": "chunk"}, micro_batch_size=3, loss={"margin": 100.0})
    counting, _, network = chunked_step(config, batch)
    assert counting.with_gradient == counting.without

    expected = build_network(config, World())
    draws: dict[str, Any] = {"seed": 7, "epoch": 2}
    for rows in (slice(0, 3), slice(3, 6), slice(6, 8)):
        ids = batch.sample_ids[rows].numpy()
        high = augment(batch.high[rows], config.augment, **draws, sample_ids=ids)
        low = degrade(high, draw_resolutions((7, 14), **draws, sample_ids=ids))
        with torch.no_grad():
            expected(torch.cat([high, low]))
    for (name, one), (_, other) in zip(network.named_buffers(), expected.named_buffers(), strict=True):
        assert torch.equal(one, other), name


class Noisy(nn.Module):
    """Remembers its dropout masks."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 32 * 32, 8)
        self.masks: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mask = nn.functional.dropout(torch.ones(len(images), 8), 0.5, self.training)
        self.masks.append(mask)
        embeddings: torch.Tensor = self.fc(images.flatten(1)) * mask
        return embeddings


def test_dropout_is_the_same_in_both_passes_and_another_in_each_chunk(small_run: SmallRun, batch: Batch) -> None:
    model = {"name": f"{__name__}:Noisy", "embedding_dim": None}
    config = config_of(small_run, model=model, micro_batch_size=4, loss={"margin": 100.0})
    _, _, network = chunked_step(config, batch)

    first, second, first_again, second_again = network.backbone.masks
    assert torch.equal(first, first_again)
    assert torch.equal(second, second_again)
    assert not torch.equal(first, second)


# fp16.


class Overflowing(nn.Module):
    """Embeds in plain numbers, with a gradient that fp16 cannot hold at a large loss scale."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 32 * 32, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self.fc(images.flatten(1)) * 3e3
        return embeddings


def test_a_step_that_overflows_fp16_is_skipped_and_halves_the_scale(small_run: SmallRun, batch: Batch) -> None:
    model = {"name": f"{__name__}:Overflowing", "embedding_dim": None}
    config = config_of(small_run, model=model, precision="fp16", micro_batch_size=4, loss={"margin": 1e4})
    network = build_network(config, World())
    before = [parameter.detach().clone() for parameter in network.parameters()]
    engine = build_engine(config, network, World())
    scales = [float(engine.state_dict()["scaler"]["scale"])]
    results = []
    for epoch in range(24):
        results.append(training_step(batch, engine, config.step, World(), seed=7, epoch=epoch, learning_rate=1e-9))
        scales.append(float(engine.state_dict()["scaler"]["scale"]))
        if results[-1].skipped:
            assert scales[-1] == scales[-2] / 2
            assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
        else:
            break

    assert len(results) > 1, "nothing overflowed"
    assert not results[-1].skipped
    assert math.isfinite(results[-1].gradient_norm)
    assert not all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    # Another engine goes on with the scale that was found.
    other = build_engine(config, build_network(config, World()), World())
    other.load_state_dict(engine.state_dict())
    assert float(other.state_dict()["scaler"]["scale"]) == scales[-1]


def test_a_run_that_overflows_at_every_scale_is_stopped(small_run: SmallRun, batch: Batch) -> None:
    model = {"name": f"{__name__}:Overflowing", "embedding_dim": None}
    config = config_of(small_run, model=model, precision="fp16", loss={"margin": 1e4})
    engine = build_engine(config, build_network(config, World()), World())
    state = engine.state_dict()
    state["scaler"]["scale"] = torch.tensor(0.5)
    engine.load_state_dict(state)

    engine.backward([lambda: next(iter(engine._parameters)).sum() * float("inf")], second_pass=False)  # type: ignore[attr-defined]
    with pytest.raises(OctoscaleError, match=r"overflow fp16 even at a loss scale of 0\.5"):
        engine.update(0.1)
