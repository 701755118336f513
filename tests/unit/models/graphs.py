"""Small networks as files of their own, as other programs write them."""

from pathlib import Path

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """With BatchNorm and dropout, whose modes a graph keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.fc = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.layers(images).mean(dim=(2, 3)))


def write_graph(network: nn.Module, path: Path) -> Path:
    """TorchScript or torch.export, as the suffix says; of 32×32 px images, any number of them."""
    images = torch.randn(2, 3, 32, 32, dtype=next(network.parameters()).dtype)
    if path.suffix == ".pt":
        torch.jit.save(torch.jit.trace(network, images), path)
    else:
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, path)
    return path
