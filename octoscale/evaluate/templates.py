"""1:1 verification of templates, IJB's: several images of a person become one embedding."""

import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octoscale.distributed.world import World
from octoscale.evaluate.curves import area_under_curve, equal_error_rate, roc, tar_at_far, thinned
from octoscale.evaluate.embedding import Images, embed, evaluating
from octoscale.evaluate.protocols.ijb import Templates

_BLOCK = 2**16


@dataclass(frozen=True)
class TemplateScores:
    """All rates are fractions 0–1."""

    name: str
    step: int
    images: int
    templates: int
    genuine_pairs: int
    impostor_pairs: int
    resolution: int | None  # to which the images were degraded
    flip: bool
    weighted: bool  # by the detector's score
    equal_error_rate: float
    area_under_curve: float
    tar_at_far: dict[float, float | None]  # None: too few impostor pairs for this false accept rate
    curve: tuple[tuple[float, float], ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def pool(embeddings: Tensor, templates: Templates) -> Tensor:
    """One embedding per template: the sum over its media of the mean over each medium's images, at unit length.

    Embeddings are not normalised before: a longer one, of a better image, weighs more. With a detector's scores each
    is multiplied by its own. (insightface's N1 D1.)

    Args:
        embeddings: float [m, dim], of every image.

    Returns:
        float64 [t, dim].
    """
    media = torch.from_numpy(templates.media)
    counts = torch.bincount(media, minlength=len(templates.template))
    scores = torch.ones(len(media)) if templates.scores is None else torch.from_numpy(templates.scores)
    means = torch.zeros(len(counts), embeddings.shape[1], dtype=torch.float64)
    for rows in torch.arange(len(media)).split(_BLOCK):
        means.index_add_(0, media[rows], embeddings[rows].double() * scores[rows, None])
    means /= counts[:, None]
    sums = torch.zeros(templates.count, embeddings.shape[1], dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(templates.template), means)
    return nn.functional.normalize(sums, dim=1)


def evaluate_templates(
    network: nn.Module,
    templates: Templates,
    images: Images,
    world: World,
    *,
    far: tuple[float, ...],
    resolution: int | None = None,
    flip: bool = False,
    batch_size: int = 128,
    step: int = 0,
    name: str = "",
) -> TemplateScores:
    """Verify pairs of templates by cosine distance. Each image is embedded once, shared among the ranks.

    Args:
        network: uint8 [n, 3, size, size] -> embeddings [n, dim], on `world.device`.
        images: of `templates.images`.
        far: false accept rates to report the true accept rate at.
        resolution: all images are degraded to it; None: they are as they are.

    Raises:
        OctoscaleError: an image is missing or damaged, or embeddings are not finite.
    """
    with evaluating(network):
        embeddings = embed(
            network, images, torch.arange(len(images)), world, resolution=resolution, flip=flip, batch_size=batch_size
        )
    distances = _distances(pool(embeddings, templates), templates)
    curve = roc(distances, templates.same)
    return TemplateScores(
        name=name,
        step=step,
        images=len(images),
        templates=templates.count,
        genuine_pairs=int(templates.same.sum()),
        impostor_pairs=int((~templates.same).sum()),
        resolution=resolution,
        flip=flip,
        weighted=templates.scores is not None,
        equal_error_rate=equal_error_rate(curve),
        area_under_curve=area_under_curve(curve),
        tar_at_far={rate: tar_at_far(distances, templates.same, rate) for rate in far},
        curve=thinned(curve),
    )


def _distances(pooled: Tensor, templates: Templates) -> NDArray[np.float64]:
    """1 − cosine of every pair: float64 [n]."""
    first, second = torch.from_numpy(templates.first), torch.from_numpy(templates.second)
    blocks = zip(first.split(_BLOCK), second.split(_BLOCK), strict=True)
    return torch.cat([1 - (pooled[a] * pooled[b]).sum(1) for a, b in blocks]).numpy()
