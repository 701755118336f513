"""The bytes that the ranks really send are at most those that are told before."""

from pathlib import Path
from typing import Any

import pytest
import torch

from octoscale.config import parse_config
from octoscale.distributed.world import World
from octoscale.geometry import Geometry
from octoscale.loss.octuplet import octuplet
from tests.conftest import small_run_values
from tests.distributed.ranks import on_ranks

DIM = 16
RULES = ("hardest", "semihard", "top_k_mean(2)", "rank(3)")


def sent(world: World, batch: int) -> dict[str, int]:
    """By rule, what this rank sends in one evaluation of the loss with its gradients."""
    generator = torch.Generator().manual_seed(world.rank)
    rows = batch // world.world_size
    high, low = (torch.randn(rows, DIM, generator=generator, requires_grad=True) for _ in range(2))
    identities = torch.arange(world.rank * rows, (world.rank + 1) * rows) // 2
    return {
        rule: octuplet(high, low, identities, negatives=rule, margin=1.0, group=world.group).sent_bytes
        for rule in RULES
    }


def told(rule: str, world_size: int, batch: int) -> int:
    values: dict[str, Any] = small_run_values(
        Path("faces"), "run", global_batch_size=batch, model={"embedding_dim": DIM}, loss={"negatives": rule}
    )
    found = Geometry.derive(parse_config(values, source="of the test"), world_size).exchange_bytes_per_step
    assert found is not None
    return found


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_exchange_of_a_step_is_at_most_what_is_told(world_size: int) -> None:
    batch = 12 * world_size
    for by_rule in on_ranks(world_size, sent, batch):
        for rule, found in by_rule.items():
            most = told(rule, world_size, batch)
            # What a rank fetches depends on how many anchors share a negative; all else follows from the shapes.
            assert most / 2 < found <= most, rule
