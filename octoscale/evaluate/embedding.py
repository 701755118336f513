"""Embedding a set of images by all ranks together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from octoscale.degrade import degrade
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.models import uncompiled


class Images(Protocol):
    """m square images of one size: a tensor [m, 3, size, size], or what reads and decodes them when asked."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """uint8 [len(rows), 3, size, size]."""


def embed(
    network: nn.Module,
    images: Images,
    rows: Tensor,
    world: World,
    *,
    resolution: int | None = None,
    flip: bool = False,
    batch_size: int = 128,
) -> Tensor:
    """Embed ``images[rows]`` once, shared among the ranks; every rank calls this and gets all of them.

    Args:
        network: uint8 [n, 3, size, size] -> embeddings [n, dim], on `world.device`; see `evaluating`.
        rows: int64 [k], k > 0.
        resolution: the images are degraded to it; None, or their own size, means that they are not.
        flip: the embedding is the mean of the image's and its mirror image's (flip fusion; by the cosine the
            mean and the usual sum are the same).

    Returns:
        float32 [k, dim] on the CPU.
    """
    # Equal shares, the last filled up with its last image: all ranks call the network equally often, as
    # wrappers that communicate in forward() demand.
    share = -(-len(rows) // world.world_size)
    mine = rows[torch.arange(world.rank * share, (world.rank + 1) * share).clamp(max=len(rows) - 1)]
    embeddings = []
    # Not inference_mode: weights that a wrapper fetches while it lasts can never be trained again.
    with torch.no_grad():
        for batch in mine.split(batch_size):
            pixels = images[batch].to(world.device)
            if resolution is not None and resolution != images.shape[-1]:
                pixels = degrade(pixels, resolution)
            embedded = network(pixels).float()
            if flip:
                embedded = (embedded + network(pixels.flip(-1)).float()) / 2
            embeddings.append(embedded)
    gathered = world.gather(torch.cat(embeddings).cpu().numpy())
    return torch.from_numpy(np.concatenate(gathered))[: len(rows)]


def check_resolutions(resolutions: Sequence[int], images: Images, setting: str) -> None:
    """Refuse resolutions larger than the images. Without resolutions no image is looked at.

    Args:
        resolutions: ascending.
        setting: what they are called, for the message.

    Raises:
        OctoscaleError: one is larger.
    """
    if resolutions and resolutions[-1] > images.shape[-1]:
        raise OctoscaleError(
            f"{setting} has {resolutions[-1]} px, but the images have {images.shape[-1]} px; leave out what is larger "
            f"than {images.shape[-1]}"
        )


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """`network` in evaluation mode, uncompiled: a run's scores are those of its weights, bit for bit.

    Afterwards every module is in the mode it was in.
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with uncompiled(network):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
