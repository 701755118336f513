"""How many images have gone through a network."""

import torch
from torch import nn

from octoscale.evaluate.counted import counted


def test_every_forward_pass_is_counted_while_the_block_lasts() -> None:
    network, told = nn.Linear(4, 2), []
    with counted(network, 10, lambda done, total: told.append((done, total))):
        network(torch.zeros(4, 4))
        network(torch.zeros(3, 4))
        # A rank's share is filled up with its last image.
        network(torch.zeros(4, 4))
    network(torch.zeros(5, 4))

    assert told == [(4, 10), (7, 10), (10, 10)]
