"""High resolution ─▶ low resolution: bicubic down and back, both antialiased (paper §3.3)."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from octoscale.errors import OctoscaleError
from octoscale.settings import Settings

# Above the fp32 rounding of two 112-term sums of values up to 255, below what changes a level:
# a value that is an integer in exact arithmetic (a white background) floors to itself on every device.
_ROUNDING = 2.0**-12


class DegradeConfig(Settings):
    """Which resolutions, in pixels, the low-resolution images are drawn from, uniformly (paper §3.3)."""

    resolutions: tuple[int, ...] = Field((7, 14, 28), min_length=1)

    @field_validator("resolutions")
    @classmethod
    def _positive(cls, resolutions: tuple[int, ...]) -> tuple[int, ...]:
        if min(resolutions) < 1:
            raise ValueError(f"resolutions are in pixels, from 1, not {resolutions}")
        return resolutions


def _resize_matrix(size_in: int, size_out: int) -> Tensor:
    """The linear map of torch's antialiased bicubic resize of one axis: float64 [size_out, size_in]."""
    basis = torch.eye(size_in, dtype=torch.float64)[None, None]
    # Only the rows are resized; a resize of the columns to their own size is the identity.
    resized = F.interpolate(basis, size=(size_out, size_in), mode="bicubic", antialias=True, align_corners=False)
    return resized[0, 0]


@lru_cache(maxsize=256)
def degradation_matrix(size: int, resolution: int) -> Tensor:
    """float32 [size, size]: down to `resolution` and back up, along one axis.

    Both resizes are linear and separable, so `matrix @ image @ matrix.T` degrades an image.
    """
    down = _resize_matrix(size, resolution)
    up = _resize_matrix(resolution, size)
    return (up @ down).float()


def degrade(images: Tensor, resolution: int | Tensor) -> Tensor:
    """Reduce the information in square images to that of `resolution` pixels, at unchanged size.

    Bicubic down to `resolution` with antialiasing, bicubic back, clamped to 0–255 and floored to
    8-bit levels, as the authors' TensorFlow code does (`tf.image.resize` twice and a saturating cast).

    Args:
        images: uint8 or float [n, channels, size, size] on 0–255.
        resolution: target resolution in pixels, one int or int64 [n] with one per image; at most `size`,
            where `size` itself means no degradation.

    Returns:
        Same shape, dtype and device as `images`; whole levels 0–255. Carries no gradient.

    Raises:
        OctoscaleError: images not square NCHW, or a resolution outside 1…size.
    """
    if images.ndim != 4 or images.shape[-1] != images.shape[-2]:
        raise OctoscaleError(f"degrade takes square images [n, channels, size, size], not {tuple(images.shape)}")
    count, size = images.shape[0], images.shape[-1]
    resolutions = torch.as_tensor(resolution)
    if resolutions.is_floating_point() or resolutions.shape not in ((), (count,)):
        raise OctoscaleError(f"resolution must be one int, or one per image of {count}; got {resolution}")
    values, which = torch.unique(resolutions.cpu().expand(count), return_inverse=True)
    if len(values) and (int(values[0]) < 1 or int(values[-1]) > size):
        raise OctoscaleError(f"resolutions {values.tolist()} do not fit images of {size} px; use 1…{size}")
    if not count:
        return images.clone()

    # [kinds, size, size] ─▶ one matrix per image: [n, 1, size, size]
    kinds = torch.stack([degradation_matrix(size, int(value)) for value in values])
    matrices = kinds.to(images.device)[which.to(images.device)].unsqueeze(1)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        degraded = matrices @ images.float() @ matrices.transpose(-1, -2)
        return degraded.add_(_ROUNDING).clamp_(0, 255).floor_().to(images.dtype)
