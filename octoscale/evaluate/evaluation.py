"""How well a network verifies faces at every resolution."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig, redacted
from octoscale.distributed.world import World
from octoscale.evaluate.as_json import PAIRS_KIND, by_number, intervals_of, reading
from octoscale.evaluate.confidence import confidence_intervals, resamples
from octoscale.evaluate.config import EvaluateConfig, Mode
from octoscale.evaluate.curves import area_under_curve, equal_error_rate, roc, tar_at_far, thinned
from octoscale.evaluate.embedding import check_resolutions, embed, evaluating
from octoscale.evaluate.protocols import Pairs, load_pairs
from octoscale.evaluate.verification import accuracy_10fold, best_threshold, cosine_distances, decisions


@dataclass(frozen=True)
class Score:
    """One mode at one resolution; all numbers are fractions 0–1."""

    accuracy: float  # mean of the folds
    accuracy_std: float  # over the folds
    equal_error_rate: float
    area_under_curve: float
    tar_at_far: dict[float, float | None]  # None: too few impostor pairs for this false accept rate
    curve: tuple[tuple[float, float], ...]  # (FAR, TAR) of the ROC, ascending, thinned for drawing
    # The distance that judges most of all pairs rightly; None: accepting nobody or everybody is as good.
    threshold: float | None = None
    # 95 %, by `confidence_intervals`' names; empty where they were not asked for.
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The scores of one network at one moment."""

    kind: ClassVar = PAIRS_KIND

    name: str
    step: int
    genuine_pairs: int
    impostor_pairs: int
    mean_embedding_norm: float  # of the distinct images, not degraded
    scores: dict[tuple[Mode, int], Score]  # by mode and resolution in pixels, in the configured order
    protocol: str = "lfw"
    flip: bool = False  # embeddings of the images and their mirror images, added
    # Of the list, see `Pairs.digest`; where it and its images lay. Empty: of an earlier version, or a pack's images.
    pairs_digest: str = ""
    pairs_url: str = ""
    images_url: str = ""

    @property
    def modes(self) -> tuple[Mode, ...]:
        return tuple(dict.fromkeys(mode for mode, _ in self.scores))

    @property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(resolution for _, resolution in self.scores))

    @property
    def varies_in_resolution(self) -> bool:
        """Whether it is of XQLFW, by its protocol or its name: its pairs differ in resolution as they are.

        So it is shown at the highest resolution alone, and never averaged with other sets.
        """
        return "xqlfw" in (self.protocol, self.name.lower())

    def mean_accuracy(self, mode: Mode) -> float:
        """The accuracy of `mode`, averaged over the resolutions."""
        return float(np.mean([score.accuracy for (of, _), score in self.scores.items() if of == mode]))

    def to_json(self) -> str:
        values = (
            {"kind": self.kind}
            | asdict(self)
            | {
                "mean_accuracy": {mode: self.mean_accuracy(mode) for mode in self.modes},
                "scores": [
                    {"mode": mode, "resolution": resolution, **asdict(score)}
                    for (mode, resolution), score in self.scores.items()
                ],
            }
        )
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Evaluation":
        """The inverse of `to_json`.

        Raises:
            OctoscaleError: not an evaluation.
        """
        with reading(cls.kind, text) as values:
            del values["mean_accuracy"]
            scores = {(score.pop("mode"), score.pop("resolution")): _score(score) for score in values.pop("scores")}
            return cls(**values, scores=scores)


def _score(values: Mapping[str, Any]) -> Score:
    # JSON has neither numbers as keys nor tuples.
    tars = by_number(values["tar_at_far"], float)
    curve = tuple((far, tar) for far, tar in values["curve"])
    return Score(**{**values, "tar_at_far": tars, "curve": curve, "intervals": intervals_of(values)})


@dataclass(frozen=True)
class Verification:
    """Pairs and decoded images, read once and evaluated often."""

    config: EvaluateConfig
    pairs: Pairs
    images: Tensor  # uint8 [m, 3, size, size]

    @classmethod
    def load(cls, config: EvaluateConfig, storage: StorageConfig = DEFAULT) -> "Verification":
        """Read what `config` names, reached by `storage`.

        Raises:
            OctoscaleError: a file is missing or malformed, or a resolution is larger than the images.
        """
        pairs, images = load_pairs(config, storage)
        check_resolutions(config.resolutions, images, "evaluate.resolutions")
        return cls(config, pairs, images)

    @property
    def passes(self) -> int:
        """Images that go through the network, by all ranks: each once as it is and once per lower resolution."""
        low = len(self.images) if "same" in self.config.modes else len(np.unique(self.pairs.second))
        lower = sum(resolution != self.images.shape[-1] for resolution in self.config.resolutions)
        return (len(self.images) + lower * low) * (2 if self.config.flip else 1)

    def evaluate(self, network: nn.Module, world: World, *, step: int = 0, name: str = "") -> Evaluation:
        """See `evaluate`."""
        return evaluate(network, self.pairs, self.images, self.config, world, step=step, name=name)


def evaluate(
    network: nn.Module,
    pairs: Pairs,
    images: Tensor,
    config: EvaluateConfig,
    world: World,
    *,
    step: int = 0,
    name: str = "",
) -> Evaluation:
    """Verify `pairs` by cosine distance, degraded to each resolution.

    ``cross`` degrades the second image of each pair, ``same`` both. Each distinct image is embedded once per
    resolution, shared among the ranks; every rank calls this and gets the same result, which does not depend
    on the batch size or the number of ranks beyond rounding.

    Args:
        network: uint8 [n, 3, size, size] -> embeddings [n, dim], on `world.device`. In evaluation mode for
            the time; afterwards every module is in the mode it was in.
        pairs: n pairs of m images.
        images: uint8 [m, 3, size, size]. A resolution of `size` means no degradation.
        step, name: recorded.

    Raises:
        OctoscaleError: a resolution is larger than the images, or embeddings are not finite.
    """
    check_resolutions(config.resolutions, images, "evaluate.resolutions")
    first, second = torch.from_numpy(pairs.first), torch.from_numpy(pairs.second)
    everyone = torch.arange(len(images))
    low_rows = everyone if "same" in config.modes else second.unique()
    distances: dict[tuple[Mode, int], NDArray[np.float64]] = {}
    with evaluating(network):
        high = embed(network, images, everyone, world, flip=config.flip, batch_size=config.batch_size)
        for resolution in config.resolutions:
            low = high
            if resolution != images.shape[-1]:
                low = torch.full_like(high, torch.nan)
                low[low_rows] = embed(
                    network, images, low_rows, world,
                    resolution=resolution, flip=config.flip, batch_size=config.batch_size,
                )  # fmt: skip
            for mode in config.modes:
                probe = high if mode == "cross" else low
                distances[mode, resolution] = cosine_distances(probe[first], low[second]).numpy()
    weights = resamples(pairs.same, config.bootstrap).to(world.device)
    return Evaluation(
        name=name,
        step=step,
        genuine_pairs=int(pairs.same.sum()),
        impostor_pairs=int((~pairs.same).sum()),
        mean_embedding_norm=float(high.double().norm(dim=1).mean()),
        scores={
            (mode, resolution): score(distances[mode, resolution], pairs, config.far, weights)
            for mode in config.modes
            for resolution in config.resolutions
        },
        protocol=config.protocol,
        flip=config.flip,
        pairs_digest=pairs.digest(),
        pairs_url=as_recorded(config.pairs),
        images_url=as_recorded(config.images or ""),
    )


def as_recorded(place: str) -> str:
    """A path so that it is the same from any working directory; of a URL no password; nothing is nothing."""
    return str(Path(place).expanduser().absolute()) if place and "://" not in place else redacted(place)


def score(distances: NDArray[np.float64], pairs: Pairs, far: tuple[float, ...], weights: Tensor | None = None) -> Score:
    """All figures of one set of distances.

    Args:
        distances: float64 [n], lower = alike, in the order of `pairs`.
        far: false accept rates to report the true accept rate at.
        weights: the `resamples` behind the confidence intervals; None: no intervals.

    Raises:
        OctoscaleError: a distance is not finite, or one kind of pair is missing.
    """
    accuracy = accuracy_10fold(distances, pairs.same, pairs.fold)
    curve = roc(distances, pairs.same)
    threshold = best_threshold(distances, pairs.same)
    intervals = {}
    if weights is not None:
        right, fold = decisions(distances, pairs.same, pairs.fold)
        intervals = confidence_intervals(distances, pairs.same, right, fold, far, weights)
    return Score(
        accuracy=accuracy.mean,
        accuracy_std=accuracy.std,
        equal_error_rate=equal_error_rate(curve),
        area_under_curve=area_under_curve(curve),
        tar_at_far={rate: tar_at_far(distances, pairs.same, rate) for rate in far},
        curve=thinned(curve),
        threshold=threshold if math.isfinite(threshold) else None,
        intervals=intervals,
    )
