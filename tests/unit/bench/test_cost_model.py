"""The formulas against what really is sent, computed and stored."""

import pytest
import torch
from support.cost_model import Search as Counted
from support.cost_model import (
    answer_bytes,
    fetch_bytes,
    gather_bytes,
    ring_bytes,
    searched_pairs,
    state_bytes,
    step_cost,
)
from support.hardware import H100
from support.network_cost import network_cost
from support.scaling_points import Work, measure
from support.training import engine_of
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from octoscale.distributed.world import World
from octoscale.models import load

DIM, ROWS = 32, 32


def test_the_bytes_of_the_exchange_are_those_that_two_ranks_send() -> None:
    batch = 2 * ROWS

    found = measure(2, Work("tiny", 0, (), 1, (), DIM, ROWS))

    sent = found["sent_bytes"]
    assert sent["send"] == ring_bytes(batch, DIM, 2) == 4 * batch * DIM
    assert sent["all_gather"] == gather_bytes(batch, 2)
    # What remains are whole rows with their ids and gradients, no more than there are negatives.
    rows = (sent["all_to_all"] - answer_bytes(batch, 2) - fetch_bytes(batch, DIM, 2, 0.0)) / (8 + 8 * DIM)
    most = (fetch_bytes(batch, DIM, 2, 1.0) - fetch_bytes(batch, DIM, 2, 0.0)) / (8 + 8 * DIM)
    assert (2 * rows).is_integer()  # a mean over two ranks
    assert 0 < rows <= most


@pytest.mark.parametrize("ranks", range(1, 10))
def test_the_half_ring_searches_every_pair_once_and_equally_much_on_all_ranks(ranks: int) -> None:
    rows = 10
    met = []
    for rank in range(ranks):
        # Its own block: two triangles and a square. A visitor's: four squares, half of them where both meet.
        pairs = 2 * rows * rows
        for hop in range(1, ranks // 2 + 1):
            pairs += (2 if 2 * hop == ranks else 4) * rows * rows
        met.append((rank, pairs))

    assert {pairs for _, pairs in met} == {searched_pairs(ranks * rows, ranks)}


def test_operations_are_counted_as_pytorch_counts_them_where_it_counts_right() -> None:
    network = load("tiny")
    images = torch.zeros(2, 3, 112, 112, dtype=torch.uint8)

    with FlopCounterMode(display=False) as forward:
        loss = network.eval()(images).sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()

    cost = network_cost("tiny")
    assert cost.forward_flops == pytest.approx(forward.get_total_flops() / 2, rel=1e-9)
    assert cost.backward_flops == pytest.approx(backward.get_total_flops() / 2, rel=1e-9)


def test_depthwise_convolutions_cost_twice_as_much_backward_as_forward() -> None:
    cost = network_cost("mobilefacenet")

    # But for the first convolution, whose input needs no gradient.
    assert 1.9 < cost.backward_flops / cost.forward_flops < 2


def test_a_commit_holds_what_the_model_says() -> None:
    state = engine_of(load("mobilefacenet"), World()).state_dict()

    tensors = [leaf for leaf in tree_leaves(state) if isinstance(leaf, torch.Tensor)]
    assert len(tensors) == network_cost("mobilefacenet").state_tensors + 2  # and the loss scale's two
    # AdamW also counts the steps of every parameter.
    assert sum(tensor.nbytes for tensor in tensors) == pytest.approx(
        state_bytes(network_cost("mobilefacenet")), rel=1e-3
    )


def test_more_ranks_share_the_work_and_add_messages() -> None:
    network, search = network_cost("iresnet50"), Counted(0.3, 1.3, 1.0, 1_000, 1_000)

    eight, many = (step_cost(network, H100, search, batch=65_536, ranks=ranks, micro=256) for ranks in (8, 64))

    assert many.network == pytest.approx(eight.network / 8, rel=0.01)
    assert many.exchange > eight.exchange
    assert many.device_bytes < eight.device_bytes
    assert many.seconds == many.network + many.mining + many.exchange + many.all_reduce
