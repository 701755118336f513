"""1:1 verification of templates, IJB's: several images of a person become one embedding."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.as_json import by_number, intervals_of, reading, scores_to_json
from octoscale.evaluate.confidence import roc_intervals
from octoscale.evaluate.config import TemplateConfig
from octoscale.evaluate.curves import area_under_curve, equal_error_rate, roc, tar_at_far, thinned
from octoscale.evaluate.embedding import Images, check_resolutions, embed, evaluating
from octoscale.evaluate.protocols.ijb import Templates, read_ijb
from octoscale.evaluate.protocols.stored import StoredImages

_BLOCK = 2**16


@dataclass(frozen=True)
class TemplateScore:
    """At one resolution; all rates are fractions 0–1."""

    equal_error_rate: float
    area_under_curve: float
    tar_at_far: dict[float, float | None]  # None: too few impostor pairs for this false accept rate
    curve: tuple[tuple[float, float], ...]  # (FAR, TAR) of the ROC, ascending, thinned for drawing
    # 95 %, by `roc_intervals`' names; empty where they were not asked for.
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def rates(self) -> dict[str, float | None]:
        """What tables show, by column."""
        tars = {f"TAR at FAR {far:g}": tar for far, tar in self.tar_at_far.items()}
        return {"EER": self.equal_error_rate, "AUC": self.area_under_curve, **tars}

    @property
    def interval_of(self) -> dict[str, tuple[float, float]]:
        """The intervals of `rates`, by column."""
        names = ("equal_error_rate", "area_under_curve", *(f"tar_at_far_{far:g}" for far in self.tar_at_far))
        columns = dict(zip(names, self.rates, strict=True))
        return {columns[name]: interval for name, interval in self.intervals.items()}


@dataclass(frozen=True)
class TemplateEvaluation:
    """The scores of one network at one moment."""

    kind: ClassVar = "templates"

    name: str
    step: int
    protocol: str
    images: int
    templates: int
    genuine_pairs: int
    impostor_pairs: int
    flip: bool
    aligned: bool  # loose crops, by their landmarks
    weighted: bool  # by the detector's score
    scores: dict[int | None, TemplateScore]  # by the resolution of the images; None: as they are

    @property
    def resolutions(self) -> tuple[int | None, ...]:
        return tuple(self.scores)

    def to_json(self) -> str:
        return scores_to_json(self.kind, self, self.scores)

    @classmethod
    def from_json(cls, text: str) -> "TemplateEvaluation":
        """The inverse of `to_json`.

        Raises:
            OctoscaleError: not an evaluation of templates.
        """
        with reading(cls.kind, text) as values:
            scores = {score.pop("resolution"): _score(score) for score in values.pop("scores")}
            return cls(**values, scores=scores)


def _score(values: Mapping[str, Any]) -> TemplateScore:
    curve = tuple((far, tar) for far, tar in values["curve"])
    tars, intervals = by_number(values["tar_at_far"], float), intervals_of(values)
    return TemplateScore(**{**values, "tar_at_far": tars, "curve": curve, "intervals": intervals})


@dataclass(frozen=True)
class TemplateVerification:
    """Templates, read once; their images are read whenever they are evaluated."""

    config: TemplateConfig
    templates: Templates
    images: Images

    @classmethod
    def load(cls, config: TemplateConfig, storage: StorageConfig = DEFAULT) -> "TemplateVerification":
        """Read what `config` names, reached by `storage`.

        Raises:
            OctoscaleError: a file is missing or malformed, or a resolution is larger than the images.
        """
        templates = read_ijb(config.pairs, config.protocol, storage)
        if config.align and templates.landmarks is None:
            raise OctoscaleError(f"align takes {config.protocol}_name_5pts_score.txt in {config.pairs}")
        landmarks = templates.landmarks if config.align else None
        images = StoredImages.named(templates.images, config.images, landmarks, storage)
        check_resolutions(config.resolutions, images, "resolutions")
        return cls(config, templates, images)

    @property
    def passes(self) -> int:
        """Images that go through the network, by all ranks."""
        return len(self.images) * max(1, len(self.config.resolutions)) * (2 if self.config.flip else 1)

    def evaluate(self, network: nn.Module, world: World, *, step: int = 0, name: str = "") -> TemplateEvaluation:
        """See `evaluate_templates`."""
        return evaluate_templates(network, self.templates, self.images, self.config, world, step=step, name=name)


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
    config: TemplateConfig,
    world: World,
    *,
    step: int = 0,
    name: str = "",
) -> TemplateEvaluation:
    """Verify pairs of templates by cosine distance. Each image is embedded once per resolution, shared among the ranks.

    Args:
        network: uint8 [n, 3, size, size] -> embeddings [n, dim], on `world.device`.
        images: of `templates.images`.
        step, name: recorded.

    Raises:
        OctoscaleError: an image is missing or damaged, or embeddings are not finite.
    """
    rows = torch.arange(len(images))
    distances: dict[int | None, NDArray[np.float64]] = {}
    with evaluating(network):
        for resolution in config.resolutions or (None,):
            embeddings = embed(
                network, images, rows, world, resolution=resolution, flip=config.flip, batch_size=config.batch_size
            )
            distances[resolution] = _distances(pool(embeddings, templates), templates)
    return TemplateEvaluation(
        name=name,
        step=step,
        protocol=config.protocol,
        images=len(images),
        templates=templates.count,
        genuine_pairs=int(templates.same.sum()),
        impostor_pairs=int((~templates.same).sum()),
        flip=config.flip,
        aligned=config.align,
        weighted=templates.scores is not None,
        scores={
            resolution: score(values, templates.same, config.far, config.bootstrap)
            for resolution, values in distances.items()
        },
    )


def score(
    distances: NDArray[np.float64], same: NDArray[np.bool_], far: tuple[float, ...], resamples: int = 0
) -> TemplateScore:
    """All figures of one set of distances.

    Args:
        distances: float64 [n], lower = alike.
        same: bool [n].
        far: false accept rates to report the true accept rate at.
        resamples: of the pairs, behind the confidence intervals; 0: no intervals.

    Raises:
        OctoscaleError: a distance is not finite, or one kind of pair is missing.
    """
    curve = roc(distances, same)
    return TemplateScore(
        equal_error_rate=equal_error_rate(curve),
        area_under_curve=area_under_curve(curve),
        tar_at_far={rate: tar_at_far(distances, same, rate) for rate in far},
        curve=thinned(curve),
        intervals=roc_intervals(distances, same, far, resamples),
    )


def _distances(pooled: Tensor, templates: Templates) -> NDArray[np.float64]:
    """1 − cosine of every pair: float64 [n]."""
    first, second = torch.from_numpy(templates.first), torch.from_numpy(templates.second)
    blocks = zip(first.split(_BLOCK), second.split(_BLOCK), strict=True)
    return torch.cat([1 - (pooled[a] * pooled[b]).sum(1) for a, b in blocks]).numpy()
