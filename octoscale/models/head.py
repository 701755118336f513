"""What the backbones share at their two ends: the size of a face crop, and an exact last layer."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from octoscale.errors import OctoscaleError

IMAGE_SIZE = 112


def require_crop(images: Tensor, network: str) -> None:
    """Raises OctoscaleError for images, [n, 3, h, w], that are not 112×112 px."""
    if images.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise OctoscaleError(
            f"{network} takes {IMAGE_SIZE}×{IMAGE_SIZE} px images, got {tuple(images.shape)}; resize them"
        )


def embed_exactly(x: Tensor, fc: Any, norm: nn.Module) -> Tensor:
    """norm(fc(x)) in the weights' precision, under autocast too: the layer sums tens of thousands of products.

    Args:
        x: features, float [n, d_in].
        fc: a linear layer.

    Returns:
        embeddings, float [n, embedding_dim].
    """
    device = x.device.type
    under_autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    # Nothing to switch off leaves nothing in an exported graph.
    with torch.autocast(device, enabled=False) if under_autocast else nullcontext():
        embeddings: Tensor = norm(fc(x.to(fc.weight.dtype)))
    return embeddings
