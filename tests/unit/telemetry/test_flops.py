"""How much a network computes."""

import torch
from torch import nn

from octoscale.telemetry.flops import forward_flops


def test_products_and_convolutions_are_counted_and_the_network_stays_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 8 * 8, 5))
    network[1].eval()

    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            embeddings: torch.Tensor = self.layers(images.float())
            return embeddings

    whole = Embedding()
    before = [buffer.clone() for buffer in whole.buffers()]
    # A multiplication and an addition for each weight, at each of 8 × 8 places.
    assert forward_flops(whole, 8, torch.device("cpu")) == 2 * (8 * 8 * 4 * 3 * 9 + 4 * 8 * 8 * 5)
    assert [module.training for module in network] == [True, False, True, True]
    assert all(torch.equal(a, b) for a, b in zip(before, whole.buffers(), strict=True))
