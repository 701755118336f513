"""Ties embeddings to those of the network before its fine-tuning, so that it unlearns nothing."""

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from octoscale.distributed.engine import AUTOCAST_DTYPE, Precision
from octoscale.loss.distance import Metric, project
from octoscale.settings import Settings

# Of the target's norm: what half precision makes of equal embeddings. Nearer than this a Euclidean distance counts as
# its square, or rounding noise would get gradients as long as a real difference.
_NOISE = 0.01


class DistillationConfig(Settings):
    """Weights of the distances of a high and of a low embedding to the teacher's of the same image at high resolution.

    `cosine` leaves the norms free, the others keep the teacher's. `euclidean` is smooth below 1 % of the target's norm.
    """

    metric: Metric = "cosine"
    high: float = Field(0.0, ge=0, description="keeps what the network knows")
    low: float = Field(0.0, ge=0, description="teaches it to see the same at low resolution")

    @model_validator(mode="after")
    def _not_both_left_out(self) -> "DistillationConfig":
        if not (self.high or self.low):
            raise ValueError("distillation needs a weight: set distillation.high or distillation.low, or leave it out")
        return self


class Teacher:
    """The network as it was: evaluated, never trained."""

    def __init__(self, network: nn.Module, device: torch.device, precision: Precision) -> None:
        self._network = network.eval().requires_grad_(False).to(device)
        # PyTorch's annotations leave this form out.
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device, self._dtype = device, AUTOCAST_DTYPE[precision]

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings float32 [n, d] of uint8 images [n, 3, size, size], without gradient."""
        with torch.no_grad(), torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None):
            embeddings: Tensor = self._network(images)
        return embeddings.float()


def distill(embeddings: Tensor, targets: Tensor, config: DistillationConfig) -> Tensor:
    """The weighted mean distance of embeddings to the teacher's: a scalar [] in fp32 (fp64 for fp64), with gradient.

    Args:
        embeddings: [2, n, d], high and low.
        targets: [n, d], the teacher's of the same images at high resolution.
    """
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    wanted = project(targets.to(wide), metric=config.metric, normalize=False)
    total = embeddings.new_zeros((), dtype=wide)
    for weight, side in zip((config.high, config.low), embeddings, strict=True):
        if weight:
            found = project(side.to(wide), metric=config.metric, normalize=False)
            total = total + weight * _distances(found, wanted, config.metric).mean()
    return total


def _distances(found: Tensor, wanted: Tensor, metric: Metric) -> Tensor:
    """Of projected rows (paper, Eq. 2-4): [n]."""
    squared: Tensor = (found - wanted).square().sum(1)
    if metric == "euclidean":
        noise: Tensor = _NOISE * torch.linalg.vector_norm(wanted, dim=1)
        return (squared + noise.square()).sqrt() - noise
    return squared / 2 if metric == "cosine" else squared
