"""What a step tells of the global batch: the same on every rank and for any number of them, equal to slow loops."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from octoscale.augment import augment
from octoscale.data.loader import Batch
from octoscale.degrade import DegradeConfig, degrade
from octoscale.distributed.ddp_engine import DdpEngine
from octoscale.distributed.world import World
from octoscale.loss.config import LossConfig
from octoscale.models import FaceNetwork, set_training
from octoscale.models.network import Preprocessing
from octoscale.optimizer import OptimizerConfig, build_optimizer
from octoscale.step import StepConfig, StepResult, draw_resolutions, training_step
from octoscale.telemetry.diagnostics import diagnose, share_of
from tests.distributed.ranks import on_ranks
from tests.unit.test_measured import values_after_a_step

BATCH, SIZE, DIM = 24, 16, 6
RESOLUTIONS = (7, 14)
TERMS = ("hhh", "hll", "lhh", "lll")
# Margin at which some triplets are active; metrics whose suspicion is measured otherwise.
CASES: list[dict[str, Any]] = [
    {"margin": 0.02},
    {"margin": 0.02, "metric": "euclidean_squared"},
    {"margin": 0.02, "metric": "cosine", "terms": ("lll", "hhh")},
    {"margin": 0.02, "negatives": "top_k_mean(2)"},
]


def batch_of(world: World) -> Batch:
    generator = torch.Generator().manual_seed(5)
    high = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    # Two of a person share what they look like; the last two are mislabelled twins of the first.
    high[1::2] = (high[0::2].int() * 3 // 4 + high[1::2].int() // 4).to(torch.uint8)
    high[-1], high[-2] = high[0], high[3]
    share = slice(world.rank * BATCH // world.world_size, (world.rank + 1) * BATCH // world.world_size)
    return Batch(high[share], torch.arange(BATCH)[share] // 2, torch.arange(100, 100 + BATCH)[share])


def network_of() -> FaceNetwork:
    torch.manual_seed(1)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, DIM))
    network = FaceNetwork(backbone, Preprocessing()).double()
    set_training(network, "frozen")
    return network


def on_this_rank(world: World) -> tuple[list[StepResult], dict[tuple[str, str], float]]:
    return results_of(world), values_after_a_step(world)


@pytest.fixture(scope="module")
def two_ranks() -> list[Any]:
    return on_ranks(2, on_this_rank)


def results_of(world: World) -> list[StepResult]:
    results = []
    for case in CASES:
        network = network_of()
        engine = DdpEngine(network, build_optimizer(network.parameters(), OptimizerConfig()), world)
        config = StepConfig(degrade=DegradeConfig(resolutions=RESOLUTIONS), loss=LossConfig(**case))
        results.append(
            training_step(batch_of(world), engine, config, world, seed=3, epoch=0, learning_rate=1e-3, diagnosed=True)
        )
    return results


def by_slow_loops(case: dict[str, Any]) -> dict[str, Any]:
    """The definitions, one anchor at a time."""
    loss, batch, network = LossConfig(**case), batch_of(World()), network_of()
    draws: dict[str, Any] = {"seed": 3, "epoch": 0, "sample_ids": batch.sample_ids.numpy()}
    high = augment(batch.high, StepConfig().augment, **draws)
    low = degrade(high, draw_resolutions(RESOLUTIONS, **draws))
    with torch.no_grad():
        raw = {"h": network(high).numpy(), "l": network(low).numpy()}
    both = np.concatenate([raw["h"], raw["l"]])
    centred = both - both.mean(0)
    share = np.linalg.svd(centred, compute_uv=False)
    share = share / share.sum()
    norms = np.linalg.norm(both, axis=1)

    def distance(a: Any, b: Any) -> float:
        if loss.metric == "cosine":
            a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
            return float(((a - b) ** 2).sum() / 2)
        squared = float(((a - b) ** 2).sum())
        return squared if loss.metric == "euclidean_squared" else squared**0.5

    terms = {}
    for term in loss.terms:
        anchors, others = raw[term[0]], raw[term[1]]
        nearer = suspect = 0
        hubs: Counter[int] = Counter()
        for row in range(BATCH):
            positive = distance(anchors[row], others[row ^ 1])
            found = sorted((distance(anchors[row], others[i]), i) for i in range(BATCH) if i // 2 != row // 2)
            chosen = found[:2] if loss.negatives == "top_k_mean(2)" else found[:1]
            hubs.update(i for _, i in chosen)
            negative = sum(d for d, _ in chosen) / len(chosen)
            nearer += negative < positive
            suspect += negative < (0.5**0.5 if loss.metric == "euclidean" else 0.5) * positive
        terms[term] = (nearer / BATCH, suspect / BATCH, max(hubs.values()))
    rank = float(np.exp(-(share * np.log(share)).sum()))
    return {"terms": terms, "norm": norms.mean(), "deviation": norms.std(), "effective_rank": rank}


def test_diagnostics_equal_slow_loops_on_one_rank_and_on_two(two_ranks: list[Any]) -> None:
    first, second = (results for results, _ in two_ranks)
    assert first == second
    for number, (found, alone) in enumerate(zip(first, results_of(World()), strict=True)):
        expected = by_slow_loops(CASES[number])
        for result in (found, alone):
            assert result.diagnostics is not None
            terms = {
                name: (term.nearer_fraction, term.suspect_fraction, result.diagnostics.largest_hub[name])
                for name, term in result.terms.items()
            }
            for name, values in expected["terms"].items():
                assert terms[name] == pytest.approx(values)
            assert result.embedding_norm == pytest.approx(expected["norm"])
            assert result.embedding_norm_deviation == pytest.approx(expected["deviation"], rel=1e-6)
            assert result.diagnostics.effective_rank == pytest.approx(expected["effective_rank"], rel=1e-6)
        # The mislabelled images are seen at high resolution.
        assert expected["terms"]["hhh"][1] > 0
        assert found.sent_bytes > 0 == alone.sent_bytes
        assert found.phase_seconds.keys() == {
            "degrade", "embed", "loss", "mine", "exchange", "second_pass", "optimizer",
        }  # fmt: skip
        assert alone.phase_seconds.keys() == found.phase_seconds.keys() - {"exchange"}


def test_rank_0_tells_of_all_ranks_and_the_others_do_not(two_ranks: list[Any]) -> None:
    first, second = (values for _, values in two_ranks)

    for name, label, value in (
        ("octoscale_job_samples_total", "", 16),
        ("octoscale_job_quarantined_samples_total", "", 3),
        ("octoscale_job_exchange_bytes_total", "", 3000),
        ("octoscale_job_phase_seconds_mean", "embed", 1.5),
        ("octoscale_job_phase_seconds_max", "embed", 2),
        ("octoscale_job_slowest_rank", "embed", 1),
        ("octoscale_job_slowest_rank", "exchange", 0),
    ):
        assert first[name, label] == pytest.approx(value), name
    assert not any(name.startswith("octoscale_job") for name, _ in second)


def test_embeddings_in_few_directions_have_that_rank_and_one_point_has_none() -> None:
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(32, 3, dtype=torch.float64))
    spread = torch.randn(20_000, 3, dtype=torch.float64) @ basis.T

    def rank_of(embeddings: torch.Tensor) -> float:
        share = share_of(embeddings, {}, global_batch_size=4)
        return diagnose(share, dim=32, terms=(), global_batch_size=4).effective_rank

    # Equal spread in three directions, far from the origin; fp32 rounding adds 1e-6 in each of the others.
    assert rank_of(1000 + spread) == pytest.approx(3, rel=1e-3)
    assert rank_of((10 + spread).float()) == pytest.approx(3, rel=1e-2)
    assert rank_of(torch.ones(8, 32)) == 0
