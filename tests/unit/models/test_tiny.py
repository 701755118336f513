"""The tiny network: small, any image size, and able to learn."""

import pytest
import torch

from octoscale.models import load
from octoscale.models.tiny import TinyNet


@pytest.mark.parametrize("size", [(112, 112), (32, 32), (8, 8), (48, 40)])
def test_any_image_size_gives_the_same_embedding_dim(size: tuple[int, int]) -> None:
    assert TinyNet()(torch.zeros(2, 3, *size)).shape == (2, 64)


def test_parameters_stay_within_two_hundred_thousand() -> None:
    assert sum(parameter.numel() for parameter in TinyNet().parameters()) == 131_344


def test_a_hundred_synthetic_identities_are_told_apart_after_a_short_training() -> None:
    """An identity is a smooth random image, a sample of it that image under noise and another brightness."""
    n = 100
    torch.manual_seed(0)
    identities = torch.nn.functional.interpolate(torch.rand(n, 3, 6, 6) * 255, 32, mode="bilinear")

    def samples() -> torch.Tensor:
        noisy = identities * (0.7 + 0.6 * torch.rand(n, 1, 1, 1)) + 40 * torch.randn(identities.shape)
        return noisy.clamp(0, 255).to(torch.uint8)

    def recall_at_one(network: torch.nn.Module) -> float:
        network.eval()
        with torch.no_grad():
            probe, gallery = network(samples()), network(samples())
        network.train()
        nearest = torch.cdist(probe, gallery).argmin(dim=1)
        return (nearest == torch.arange(n)).float().mean().item()

    network = load("tiny")
    untrained = recall_at_one(network)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(20):
        first, second = network(samples()), network(samples())
        # Cross-entropy over negative distances: the simplest loss that pulls pairs together.
        loss = torch.nn.functional.cross_entropy(-torch.cdist(first, second), torch.arange(n))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained = recall_at_one(network)
    # Seeds 0, 1, 2 gave 0.26 to 0.30 before, 0.98 to 1.00 after.
    assert untrained < 0.5
    assert trained > 0.9
