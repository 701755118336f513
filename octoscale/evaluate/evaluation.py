"""How well a network verifies faces at every resolution."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octoscale.degrade import degrade
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import EvaluateConfig, Mode
from octoscale.evaluate.curves import area_under_curve, equal_error_rate, roc, tar_at_far, thinned
from octoscale.evaluate.protocols import Pairs, load_images, read_pairs
from octoscale.evaluate.verification import accuracy_10fold, cosine_distances


@dataclass(frozen=True)
class Score:
    """One mode at one resolution; all numbers are fractions 0–1."""

    accuracy: float  # mean of the folds
    accuracy_std: float  # over the folds
    equal_error_rate: float
    area_under_curve: float
    tar_at_far: dict[float, float | None]  # None: too few impostor pairs for this false accept rate
    curve: tuple[tuple[float, float], ...]  # (FAR, TAR) of the ROC, ascending, thinned for drawing


@dataclass(frozen=True)
class Evaluation:
    """The scores of one network at one moment."""

    name: str
    step: int
    genuine_pairs: int
    impostor_pairs: int
    mean_embedding_norm: float  # of the distinct images, not degraded
    scores: dict[tuple[Mode, int], Score]  # by mode and resolution in pixels, in the configured order

    @property
    def modes(self) -> tuple[Mode, ...]:
        return tuple(dict.fromkeys(mode for mode, _ in self.scores))

    @property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(resolution for _, resolution in self.scores))

    def mean_accuracy(self, mode: Mode) -> float:
        """The accuracy of `mode`, averaged over the resolutions."""
        return float(np.mean([score.accuracy for (of, _), score in self.scores.items() if of == mode]))

    def to_json(self) -> str:
        values = asdict(self) | {
            "mean_accuracy": {mode: self.mean_accuracy(mode) for mode in self.modes},
            "scores": [
                {"mode": mode, "resolution": resolution, **asdict(score)}
                for (mode, resolution), score in self.scores.items()
            ],
        }
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Evaluation":
        """The inverse of `to_json`.

        Raises:
            OctoscaleError: not an evaluation.
        """
        try:
            values = json.loads(text)
            del values["mean_accuracy"]
            scores = {(score.pop("mode"), score.pop("resolution")): _score(score) for score in values.pop("scores")}
            return cls(**values, scores=scores)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise OctoscaleError(f"not an evaluation in JSON ({error!r}); evaluate again") from error


def _score(values: Mapping[str, Any]) -> Score:
    # JSON has neither numbers as keys nor tuples.
    tars = {float(far): tar for far, tar in values["tar_at_far"].items()}
    return Score(**{**values, "tar_at_far": tars, "curve": tuple((far, tar) for far, tar in values["curve"])})


@dataclass(frozen=True)
class Verification:
    """Pairs and decoded images, read once and evaluated often."""

    config: EvaluateConfig
    pairs: Pairs
    images: Tensor  # uint8 [m, 3, size, size]

    @classmethod
    def load(cls, config: EvaluateConfig) -> "Verification":
        """Read what `config` names.

        Raises:
            OctoscaleError: a file is missing or malformed, or a resolution is larger than the images.
        """
        pairs = read_pairs(config.pairs)
        images = load_images(pairs, config.images)
        _check_resolutions(config, images)
        return cls(config, pairs, images)

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
    _check_resolutions(config, images)
    first, second = torch.from_numpy(pairs.first), torch.from_numpy(pairs.second)
    everyone = torch.arange(len(images))
    low_rows = everyone if "same" in config.modes else second.unique()
    distances: dict[tuple[Mode, int], NDArray[np.float64]] = {}
    # Not inference_mode: weights that a wrapper fetches while it lasts can never be trained again.
    with _evaluating(network), torch.no_grad():
        high = _embed(network, images, everyone, images.shape[-1], config.batch_size, world)
        for resolution in config.resolutions:
            low = high
            if resolution != images.shape[-1]:
                low = torch.full_like(high, torch.nan)
                low[low_rows] = _embed(network, images, low_rows, resolution, config.batch_size, world)
            for mode in config.modes:
                probe = high if mode == "cross" else low
                distances[mode, resolution] = cosine_distances(probe[first], low[second]).numpy()
    return Evaluation(
        name=name,
        step=step,
        genuine_pairs=int(pairs.same.sum()),
        impostor_pairs=int((~pairs.same).sum()),
        mean_embedding_norm=float(high.double().norm(dim=1).mean()),
        scores={
            (mode, resolution): score(distances[mode, resolution], pairs, config.far)
            for mode in config.modes
            for resolution in config.resolutions
        },
    )


def score(distances: NDArray[np.float64], pairs: Pairs, far: tuple[float, ...]) -> Score:
    """All figures of one set of distances.

    Args:
        distances: float64 [n], lower = alike, in the order of `pairs`.
        far: false accept rates to report the true accept rate at.

    Raises:
        OctoscaleError: a distance is not finite, or one kind of pair is missing.
    """
    # A list of one fold has all genuine pairs first: take both kinds in turn, so that a tenth holds both.
    turn = np.where(pairs.same, pairs.same.cumsum(), (~pairs.same).cumsum())
    order = np.argsort(turn, kind="stable") if pairs.folds == 1 else np.arange(len(pairs))
    accuracy = accuracy_10fold(distances[order], pairs.same[order], pairs.folds if pairs.folds > 1 else 10)
    curve = roc(distances, pairs.same)
    return Score(
        accuracy=accuracy.mean,
        accuracy_std=accuracy.std,
        equal_error_rate=equal_error_rate(curve),
        area_under_curve=area_under_curve(curve),
        tar_at_far={rate: tar_at_far(distances, pairs.same, rate) for rate in far},
        curve=thinned(curve),
    )


def _check_resolutions(config: EvaluateConfig, images: Tensor) -> None:
    if config.resolutions[-1] > images.shape[-1]:
        raise OctoscaleError(
            f"evaluate.resolutions has {config.resolutions[-1]} px, but the images have {images.shape[-1]} px; "
            f"leave out what is larger than {images.shape[-1]}"
        )


def _embed(network: nn.Module, images: Tensor, rows: Tensor, resolution: int, batch_size: int, world: World) -> Tensor:
    """Embeddings of ``images[rows]``, degraded to `resolution`: float [len(rows), dim] on the CPU, on every rank."""
    # Equal shares, the last filled up with its last image: all ranks call the network equally often, as
    # wrappers that communicate in forward() demand.
    share = -(-len(rows) // world.world_size)
    mine = rows[torch.arange(world.rank * share, (world.rank + 1) * share).clamp(max=len(rows) - 1)]
    embeddings = []
    for batch in mine.split(batch_size):
        pixels = images[batch].to(world.device)
        if resolution != images.shape[-1]:
            pixels = degrade(pixels, resolution)
        embeddings.append(network(pixels).float().cpu())
    gathered = world.gather(torch.cat(embeddings).numpy())
    return torch.from_numpy(np.concatenate(gathered))[: len(rows)]


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
