"""Flip, brightness and saturation: one draw per sample, before the image is degraded."""

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from octoscale.randomness import uniform
from octoscale.settings import Settings

# ITU-R BT.601 luma, the grey that saturation blends with.
_LUMA = (0.299, 0.587, 0.114)


class AugmentConfig(Settings):
    """Strength of the augmentation; zeros turn it off."""

    flip_probability: float = Field(0.5, ge=0, le=1)
    brightness: float = Field(0.15, ge=0, lt=1, description="the factor is drawn from 1 ± this")
    saturation: float = Field(0.0, ge=0, lt=1, description="the factor is drawn from 1 ± this")


def augment(images: Tensor, config: AugmentConfig, *, seed: int, epoch: int, sample_ids: NDArray[np.int64]) -> Tensor:
    """Flip and recolour each image by its own draw.

    Args:
        images: uint8 [n, 3, height, width], RGB.
        config: strengths.
        seed, epoch, sample_ids: what the draws are a function of; sample_ids int64 [n].

    Returns:
        uint8 [n, 3, height, width] on the same device.
    """

    def draw(stream: str) -> Tensor:
        return torch.from_numpy(uniform(stream, seed, epoch, sample_ids)).float().to(images.device).view(-1, 1, 1, 1)

    if config.flip_probability:
        images = torch.where(draw("flip") < config.flip_probability, images.flip(-1), images)
    if not (config.brightness or config.saturation):
        return images
    levels = images.float()
    if config.brightness:
        levels = levels * (1 + config.brightness * (2 * draw("brightness") - 1))
    if config.saturation:
        grey = (levels * levels.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        levels = torch.lerp(grey, levels, 1 + config.saturation * (2 * draw("saturation") - 1))
    return levels.round_().clamp_(0, 255).to(torch.uint8)
