"""The loss over ranks equals the loss of one process on the whole batch: value, choice, scale and direction."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.loss import TERMS, octuplet, octuplet_loss
from octoscale.loss.mining import Tiling
from tests.distributed.ranks import on_ranks
from tests.unit.loss import brute_force
from tests.unit.loss.test_mining import as_lists

BATCH, PIXELS, DIM = 24, 10, 6

# (metric, normalize, margin, negatives): margins at which some triplets are active and some are not.
CASES = [
    ("euclidean", False, 0.5, "hardest"),
    ("euclidean_squared", False, 0.5, "hardest"),
    ("cosine", False, 0.2, "hardest"),
    ("euclidean", True, 0.3, "hardest"),
    ("euclidean", False, 0.8, "top_k_mean(3)"),
    ("euclidean_squared", False, 0.8, "rank(2)"),
    ("cosine", False, 0.3, "semihard"),
    ("euclidean", False, 0.5, "positive_aware(1.1)"),
]
# Tiles that cut a rank's rows, and tiles larger than them; segments are never larger than tiles. Ranks searched one by
# one, several at once, and all at once.
TILINGS = [
    Tiling(4, 4, torch.float64, party=1),
    Tiling(8, 2, torch.bfloat16, party=8),
    Tiling(1024, 16, torch.float32),
]
SUBSETS = [tuple(TERMS), ("hll", "lll"), ("lhh",)]

LABELS = {
    "pairs": [number // 2 for number in range(BATCH)],
    # One image, three images, and identities that lie on several ranks.
    "any": [0, 5, 2, 3, 0, 1, 2, 4, 7, 6, 3, 0, 9, 2, 8, 1, 4, 7, 7, 10, 6, 11, 3, 2],
}


def images(labels: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    people = 3 * torch.randn(max(labels) + 1, PIXELS, generator=generator, dtype=torch.float64)
    high, low = (
        people[labels] + noise * torch.randn(BATCH, PIXELS, generator=generator, dtype=torch.float64)
        for noise in (0.5, 1.0)
    )
    return high, low, torch.tensor(labels)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    # No last bias: distances do not see it, and the scale of a gradient of zero is noise.
    return nn.Sequential(nn.Linear(PIXELS, 16), nn.Tanh(), nn.Linear(16, DIM, bias=False)).double()


def gradients_of(
    world: World, labels: list[int], case: tuple[Any, ...], terms: tuple[str, ...], tiling: Tiling
) -> dict[str, Any]:
    metric, normalize, margin, negatives = case
    network = small_network()
    wrapped = network if world.world_size == 1 else DistributedDataParallel(network)
    high, low, identities = (rows.chunk(world.world_size)[world.rank] for rows in images(labels))
    found = octuplet(
        *wrapped(torch.cat([high, low])).chunk(2), identities,
        metric=metric, normalize=normalize, margin=margin, negatives=negatives, terms=terms,
        group=world.group, tiling=tiling,
    )  # fmt: skip
    found.loss.backward()
    return {
        "loss": found.loss.item(),
        "gradients": [parameter.grad for parameter in network.parameters()],
        "triplets": {term: as_lists(result.triplets) for term, result in found.terms.items()},
        "active": {term: float(result.active_fraction) for term, result in found.terms.items()},
    }


def by_brute_force(labels: list[int], case: tuple[Any, ...], terms: tuple[str, ...]) -> dict[str, Any]:
    metric, normalize, margin, negatives = case
    network = small_network()
    high, low, identities = images(labels)
    loss, chosen = brute_force.octuplet(
        *network(torch.cat([high, low])).chunk(2), identities,
        metric=metric, normalize=normalize, margin=margin, negatives=negatives, terms=terms,
    )  # fmt: skip
    loss.backward()
    triplets = {term: rows.tolist() for term, rows in chosen.items()}
    return {"loss": loss.item(), "gradients": [p.grad for p in network.parameters()], "triplets": triplets}


def all_cases() -> list[tuple[Any, ...]]:
    every = [(labels, case, SUBSETS[0]) for labels in LABELS.values() for case in CASES]
    return every + [(labels, CASES[0], terms) for labels in LABELS.values() for terms in SUBSETS[1:]]


def on_this_rank(world: World) -> list[list[dict[str, Any]]]:
    return [
        [gradients_of(world, *case, TILINGS[(number + shift) % len(TILINGS)]) for shift in range(2)]
        for number, case in enumerate(all_cases())
    ]


# Six ranks are the fewest of which some are searched at once and an opposite one is not among them.
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, pytest.param(6, marks=pytest.mark.slow)])
def test_loss_choice_and_gradients_equal_brute_force_on_the_whole_batch(world_size: int) -> None:
    ranks = on_ranks(world_size, on_this_rank)
    shares = []
    for number, case in enumerate(all_cases()):
        expected = by_brute_force(*case)
        for tiling in range(2):
            found = [rank[number][tiling] for rank in ranks]
            assert sum(rank["loss"] for rank in found) / world_size == pytest.approx(expected["loss"], rel=1e-12)
            for term, triplets in expected["triplets"].items():
                assert [row for rank in found for row in rank["triplets"][term]] == triplets
            shares.append(sum(sum(rank["active"].values()) for rank in found) / world_size / len(case[2]))
            for rank in found:
                for gradient, wanted in zip(rank["gradients"], expected["gradients"], strict=True):
                    scale = gradient.norm() / wanted.norm()
                    direction = (gradient * wanted).sum() / (gradient.norm() * wanted.norm())
                    assert float(scale) == pytest.approx(1, abs=1e-10)
                    assert float(direction) == pytest.approx(1, abs=1e-10)
    assert min(shares) > 0
    assert sum(share < 1 for share in shares) > len(shares) / 2, "margins at which all triplets count test little"


def message_of_a_fault(world: World) -> str:
    high, low, identities = (rows.chunk(world.world_size)[world.rank] for rows in images(LABELS["pairs"]))
    if world.rank == 1:
        high = high.index_fill(0, torch.tensor([2]), torch.nan)
    with pytest.raises(OctoscaleError) as error:
        octuplet_loss(high, low, identities, group=world.group)
    return str(error.value)


def test_a_fault_on_one_rank_is_the_same_error_on_all() -> None:
    messages = on_ranks(2, message_of_a_fault)
    # Row 2 of rank 1 is row 14 of the global batch of 24.
    assert "1 of 24 high embeddings are NaN or infinite, the first is row 14" in messages[0]
    assert messages[0] == messages[1]


def message_of_unequal_ranks(world: World) -> str:
    high, low, identities = (rows.chunk(world.world_size)[world.rank] for rows in images(LABELS["pairs"]))
    rows = slice(0, len(high) - 2 * world.rank)
    with pytest.raises(OctoscaleError) as error:
        octuplet_loss(high[rows], low[rows], identities[rows], group=world.group)
    return str(error.value)


def test_ranks_with_unequal_parts_are_refused_instead_of_hanging() -> None:
    messages = on_ranks(2, message_of_unequal_ranks)
    assert "rank 1 gives 10 embeddings of length 10, rank 0 12" in messages[0]
    assert messages[0] == messages[1]


def gradient_wanted_by_one(world: World) -> list[float]:
    high, low, identities = (rows.chunk(world.world_size)[world.rank] for rows in images(LABELS["pairs"]))
    high.requires_grad_(world.rank == 0)
    loss = octuplet_loss(high, low, identities, margin=2.0, group=world.group)
    if world.rank == 0:
        loss.backward()
        assert high.grad is not None
        return [loss.item(), float(high.grad.norm())]
    return [loss.item()]


def test_a_rank_that_wants_no_gradient_still_gives_the_others_theirs() -> None:
    first, second = on_ranks(2, gradient_wanted_by_one)
    high, low, identities = images(LABELS["pairs"])
    high.requires_grad_()
    loss = octuplet_loss(high, low, identities, margin=2.0)
    loss.backward()
    assert high.grad is not None
    assert (first[0] + second[0]) / 2 == pytest.approx(loss.item())
    # Two ranks: a share is twice its part of the mean.
    assert first[1] / 2 == pytest.approx(float(high.grad.chunk(2)[0].norm()))
