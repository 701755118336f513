"""One optimizer step, in the order in which the data flow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octoscale.augment import AugmentConfig, augment
from octoscale.data.loader import Batch
from octoscale.degrade import DegradeConfig, degrade
from octoscale.distributed.engine import Engine
from octoscale.distributed.world import World
from octoscale.loss import Octuplet, octuplet
from octoscale.loss.config import LossConfig
from octoscale.randomness import uniform
from octoscale.settings import Settings


class StepConfig(Settings):
    """What a step does with its batch."""

    augment: AugmentConfig = AugmentConfig()
    degrade: DegradeConfig = DegradeConfig()
    loss: LossConfig = LossConfig()


@dataclass(frozen=True)
class TermMeans:
    """One term of the loss, mean over the anchors of the global batch; distances in the metric's unit."""

    loss: float
    active_fraction: float
    positive_distance: float
    negative_distance: float


@dataclass(frozen=True)
class StepResult:
    """What came of one step, over the global batch."""

    loss: float
    terms: dict[str, TermMeans]
    gradient_norm: float
    embedding_norm: float


def draw_resolutions(resolutions: Sequence[int], *, seed: int, epoch: int, sample_ids: NDArray[np.int64]) -> Tensor:
    """One resolution per sample, uniformly from the list, by (seed, epoch, sample id): int64 [n]."""
    draws = uniform("resolution", seed, epoch, sample_ids)
    return torch.tensor(resolutions)[torch.from_numpy((draws * len(resolutions)).astype(np.int64))]


def training_step(
    batch: Batch, engine: Engine, config: StepConfig, world: World, *, seed: int, epoch: int, learning_rate: float
) -> StepResult:
    """Train on this rank's part of one global batch; the negatives come from all ranks' parts."""
    sample_ids = batch.sample_ids.numpy()
    high = batch.high.to(world.device, non_blocking=True)
    high = augment(high, config.augment, seed=seed, epoch=epoch, sample_ids=sample_ids)
    resolutions = draw_resolutions(config.degrade.resolutions, seed=seed, epoch=epoch, sample_ids=sample_ids)
    low = degrade(high, resolutions)

    # Dropout draws from torch's own generator: a step, and so a resumed run, finds it in a state of its own.
    torch.manual_seed(int(uniform("torch", seed, epoch, sample_ids[:1])[0] * 2**53))
    embeddings = engine.embed(torch.cat([high, low]))
    high_embeddings, low_embeddings = embeddings.chunk(2)

    identities = batch.identities.to(world.device)
    found = octuplet(
        high_embeddings,
        low_embeddings,
        identities,
        margin=config.loss.margin,
        metric=config.loss.metric,
        normalize=config.loss.normalize,
        terms=config.loss.terms,
        group=world.group,
    )
    engine.backward(found.loss)
    gradient_norm = engine.update(learning_rate)
    return _over_the_global_batch(found, embeddings.detach().norm(dim=1).mean(), gradient_norm, world)


def _over_the_global_batch(found: Octuplet, embedding_norm: Tensor, gradient_norm: float, world: World) -> StepResult:
    """The means of the ranks' shares, in one reduction and one transfer from the device."""
    scalars = [found.loss.detach(), embedding_norm]
    for term in found.terms.values():
        scalars += [term.loss, term.active_fraction, term.positive_distance, term.negative_distance]
    loss, norm, *rest = world.mean(torch.stack(scalars).tolist())
    terms = {name: TermMeans(*rest[4 * i : 4 * i + 4]) for i, name in enumerate(found.terms)}
    return StepResult(loss, terms, gradient_norm, norm)
