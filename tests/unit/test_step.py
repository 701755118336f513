"""One step on one process, against the same thing written out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscale.augment import augment
from octoscale.config import Config, parse_config
from octoscale.data.index import Index
from octoscale.data.loader import Batch
from octoscale.data.reader import ImageReader
from octoscale.degrade import degrade
from octoscale.distributed.world import World
from octoscale.step import StepResult, draw_resolutions, training_step
from octoscale.train import build_engine, build_network
from tests.conftest import SmallRun


@pytest.fixture
def batch(packed_faces: Path) -> Batch:
    """Four identities with two images each."""
    index = Index.load(packed_faces)
    sample_ids = np.array([0, 1, 4, 6, 9, 11, 20, 22])
    high = ImageReader(index, packed_faces).__getitems__(sample_ids)
    return Batch(high, torch.from_numpy(index.identity_of(sample_ids)), torch.from_numpy(sample_ids))


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
