"""How much a network computes, as PyTorch counts it."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def forward_flops(network: nn.Module, image_size: int, device: torch.device) -> float:
    """Floating-point operations of one image through `network`: products and convolutions, which are nearly all.

    A network that the counter does not know, one with kernels of its own, gives less than it does.
    """
    training = [module for module in network.modules() if module.training]
    image = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8, device=device)
    # Not in training mode: running statistics stay as they are.
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(image)
    finally:
        for module in training:
            module.training = True
    return float(counter.get_total_flops())
