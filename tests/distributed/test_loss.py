"""The loss over ranks equals the loss of one process on the whole batch: value, choice, scale and direction."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.loss import octuplet, octuplet_loss
from tests.distributed.ranks import on_ranks

BATCH, PIXELS, DIM = 24, 10, 6

# (metric, normalize, margin): margins at which some triplets are active and some are not.
CASES = [("euclidean", False, 0.5), ("euclidean_squared", False, 0.5), ("cosine", False, 0.2), ("euclidean", True, 0.3)]

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


def gradients_of(world: World, labels: list[int], metric: Any, normalize: bool, margin: float) -> dict[str, Any]:
    network = small_network()
    wrapped = network if world.world_size == 1 else DistributedDataParallel(network)
    high, low, identities = (rows.chunk(world.world_size)[world.rank] for rows in images(labels))
    found = octuplet(
        *wrapped(torch.cat([high, low])).chunk(2), identities,
        metric=metric, normalize=normalize, margin=margin, group=world.group,
    )  # fmt: skip
    found.loss.backward()
    triplets = {
        term: torch.stack([result.triplets.anchors, result.triplets.positives, result.triplets.negatives], 1)
        for term, result in found.terms.items()
    }
    active = {term: float(result.active_fraction) for term, result in found.terms.items()}
    return {
        "loss": found.loss.item(),
        "gradients": [parameter.grad for parameter in network.parameters()],
        "triplets": triplets,
        "active": active,
    }


def all_cases(world: World) -> list[dict[str, Any]]:
    return [gradients_of(world, labels, *case) for labels in LABELS.values() for case in CASES]


@pytest.fixture(scope="module")
def alone() -> list[dict[str, Any]]:
    return all_cases(World())


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_loss_choice_and_gradients_equal_one_process(world_size: int, alone: list[dict[str, Any]]) -> None:
    ranks = on_ranks(world_size, all_cases)
    for number, expected in enumerate(alone):
        found = [rank[number] for rank in ranks]
        assert sum(rank["loss"] for rank in found) / world_size == pytest.approx(expected["loss"], rel=1e-12)
        for term, triplets in expected["triplets"].items():
            assert torch.equal(torch.cat([rank["triplets"][term] for rank in found]), triplets)
            active = sum(rank["active"][term] for rank in found) / world_size
            assert active == pytest.approx(expected["active"][term])
        assert 0 < sum(expected["active"].values()) < 4, "margins at which all or no triplets count test nothing"
        for rank in found:
            for gradient, wanted in zip(rank["gradients"], expected["gradients"], strict=True):
                scale = gradient.norm() / wanted.norm()
                direction = (gradient * wanted).sum() / (gradient.norm() * wanted.norm())
                assert float(scale) == pytest.approx(1, abs=1e-10)
                assert float(direction) == pytest.approx(1, abs=1e-10)


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
