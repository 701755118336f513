"""One optimizer step, in the order in which the data flow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from octoscale.augment import AugmentConfig, augment
from octoscale.data.loader import Batch
from octoscale.degrade import DegradeConfig, degrade
from octoscale.distillation import DistillationConfig, Teacher, distill
from octoscale.distributed.engine import Engine, Update
from octoscale.distributed.world import World
from octoscale.loss import Octuplet, octuplet
from octoscale.loss.config import LossConfig
from octoscale.loss.exchange import Phase, untimed
from octoscale.randomness import uniform
from octoscale.settings import Settings
from octoscale.telemetry.diagnostics import Diagnostics, diagnose, share_of
from octoscale.telemetry.phases import PhaseClock


class StepConfig(Settings):
    """What a step does with its batch."""

    micro_batch_size: int | None = Field(None, ge=1)
    augment: AugmentConfig = AugmentConfig()
    degrade: DegradeConfig = DegradeConfig()
    loss: LossConfig = LossConfig()
    distillation: DistillationConfig | None = None


@dataclass(frozen=True)
class TermMeans:
    """One term of the loss, mean over the anchors of the global batch; distances in the metric's unit.

    The last two are NaN in the journal of a run that did not measure them.
    """

    loss: float
    active_fraction: float
    positive_distance: float
    negative_distance: float
    nearer_fraction: float = math.nan
    suspect_fraction: float = math.nan


@dataclass(frozen=True)
class StepResult:
    """What came of one step, over the global batch.

    Attributes:
        loss: what the step lowers: the octuplet loss, and the distillation where there is one.
        embedding_norm, embedding_norm_deviation: mean and standard deviation over all embeddings, high and low.
        loss_scale: of fp16; None in other precisions.
        distillation: its share of the loss; None in a run without it.
        diagnostics: None in a step that did not ask for them.
        phase_seconds, sent_bytes: this rank's own, and no part of the result: where its time went, and how much it
            sent to other ranks for the loss.
    """

    loss: float
    terms: dict[str, TermMeans]
    gradient_norm: float
    embedding_norm: float
    skipped: bool = False
    embedding_norm_deviation: float = math.nan
    loss_scale: float | None = None
    distillation: float | None = None
    diagnostics: Diagnostics | None = None
    phase_seconds: dict[str, float] = field(default_factory=dict, compare=False)
    sent_bytes: int = field(default=0, compare=False)


def draw_resolutions(resolutions: Sequence[int], *, seed: int, epoch: int, sample_ids: NDArray[np.int64]) -> Tensor:
    """One resolution per sample, uniformly from the list, by (seed, epoch, sample id): int64 [n]."""
    draws = uniform("resolution", seed, epoch, sample_ids)
    return torch.tensor(resolutions)[torch.from_numpy((draws * len(resolutions)).astype(np.int64))]


def training_step(
    batch: Batch,
    engine: Engine,
    config: StepConfig,
    world: World,
    *,
    seed: int,
    epoch: int,
    learning_rate: float,
    teacher: Teacher | None = None,
    diagnosed: bool = False,
) -> StepResult:
    """Train on this rank's part of one global batch; the negatives come from all ranks' parts.

    The part goes through the network chunk by chunk. Its first pass gives the embeddings; the loss over those of
    all ranks gives the embeddings' gradients; a second pass takes these on to the parameters. Only one chunk's
    activations are ever in memory, and the gradients are those of the batch as a whole. A single chunk keeps its
    activations and needs no second pass.

    Args:
        teacher: of `config.distillation`, where there is one.
        diagnosed: measure `StepResult.diagnostics` too; the same on all ranks.
    """
    clock = PhaseClock(world.device)
    chunks = chunk_rows(len(batch.high), config.micro_batch_size)
    embed = partial(_embed, batch, engine, config, world, seed=seed, epoch=epoch)

    with torch.set_grad_enabled(len(chunks) == 1):
        embeddings = torch.cat([embed(rows, clock) for rows in chunks], dim=1)  # [2, B, d]: high and low
    targets = None
    if teacher is not None:
        with clock("embed"):
            high = partial(_high, batch, config, world, seed=seed, epoch=epoch)
            targets = torch.cat([teacher.embed(high(rows)) for rows in chunks])
    identities = batch.identities.to(world.device)
    with clock("loss"):
        found, distilled, gradients = _loss_and_gradients(
            embeddings.detach(), identities, targets, config, world, clock
        )

    def part(rows: slice) -> Tensor:
        again = embeddings if embeddings.requires_grad else embed(rows, untimed)
        # ⟨E, G⟩ with G constant: its gradient with respect to E is G.
        return (again * gradients[:, rows]).sum()

    moving = chunks if engine.embedding_is_collective else rows_with_gradient(chunks, gradients)
    with clock("second_pass"):
        engine.backward([partial(part, rows) for rows in moving], second_pass=len(chunks) > 1)
    with clock("optimizer"):
        update = engine.update(learning_rate)
    return _over_the_global_batch(found, distilled, embeddings.detach(), update, world, clock, diagnosed=diagnosed)


def chunk_rows(rank_batch_size: int, micro_batch_size: int | None) -> list[slice]:
    """The rows of each chunk: `micro_batch_size` of them, fewer in the last; None: all of them."""
    size = micro_batch_size or rank_batch_size
    return [slice(first, min(first + size, rank_batch_size)) for first in range(0, rank_batch_size, size)]


def rows_with_gradient(chunks: list[slice], gradients: Tensor) -> list[slice]:
    """The chunks that move a parameter; never none, since every rank has gradients to synchronise.

    Args:
        chunks: rows of each.
        gradients: float [2, B, d], of the embeddings.
    """
    moving = gradients.ne(0).any(dim=2).any(dim=0).cpu()
    return [rows for rows in chunks if moving[rows].any()] or chunks[-1:]


def _embed(
    batch: Batch, engine: Engine, config: StepConfig, world: World, rows: slice, phase: Phase, *, seed: int, epoch: int
) -> Tensor:
    """Embeddings of a chunk, high and low: float [2, n, d]. All draws are by sample ids: called again, it repeats."""
    sample_ids = batch.sample_ids[rows].numpy()
    with phase("degrade"):
        high = _high(batch, config, world, rows, seed=seed, epoch=epoch)
        resolutions = draw_resolutions(config.degrade.resolutions, seed=seed, epoch=epoch, sample_ids=sample_ids)
        low = degrade(high, resolutions)
    # Dropout draws from torch's own generators: a chunk, and so a resumed run, finds them in a state of its own.
    torch.manual_seed(int(uniform("torch", seed, epoch, sample_ids[:1])[0] * 2**53))
    with phase("embed"):
        embeddings = engine.embed(torch.cat([high, low]))
    return embeddings.view(2, len(high), -1)


def _high(batch: Batch, config: StepConfig, world: World, rows: slice, *, seed: int, epoch: int) -> Tensor:
    """The augmented images of a chunk on this rank's device: uint8 [n, 3, size, size]."""
    high = batch.high[rows].to(world.device, non_blocking=True)
    return augment(high, config.augment, seed=seed, epoch=epoch, sample_ids=batch.sample_ids[rows].numpy())


def _loss_and_gradients(
    embeddings: Tensor, identities: Tensor, targets: Tensor | None, config: StepConfig, world: World, phase: Phase
) -> tuple[Octuplet, Tensor | None, Tensor]:
    """The loss of the global batch, this rank's distillation, and the gradients of its embeddings [2, B, d]."""
    loss, distilled = config.loss, None
    leaf = embeddings.requires_grad_()
    found = octuplet(
        leaf[0],
        leaf[1],
        identities,
        margin=loss.margin,
        metric=loss.metric,
        normalize=loss.normalize,
        terms=loss.terms,
        negatives=loss.negatives,
        group=world.group,
        phase=phase,
    )
    total = found.loss
    if targets is not None:
        assert config.distillation is not None
        distilled = distill(leaf, targets, config.distillation)
        total = total + distilled
    (gradients,) = torch.autograd.grad(total, leaf)
    return found, distilled, gradients


def _over_the_global_batch(
    found: Octuplet, distilled: Tensor | None, embeddings: Tensor, update: Update, world: World, clock: PhaseClock, *,
    diagnosed: bool,
) -> StepResult:  # fmt: skip
    """The ranks' shares together, in one reduction and, diagnostics apart, one transfer from the device."""
    norms = torch.linalg.vector_norm(embeddings, dim=2, dtype=torch.float64)
    teaching = found.loss.new_zeros(()) if distilled is None else distilled.detach()
    scalars = [found.loss.detach() + teaching, norms.mean(), norms.square().mean(), teaching]
    for term in found.terms.values():
        scalars += [term.loss, term.active_fraction, term.positive_distance, term.negative_distance,
                    term.nearer_fraction, term.suspect_fraction]  # fmt: skip
    share = torch.stack([scalar.double() for scalar in scalars])
    negatives = {name: term.triplets.negatives for name, term in found.terms.items()}
    sizes = {"global_batch_size": embeddings.shape[1] * world.world_size}
    if diagnosed:
        share = torch.cat([share, share_of(embeddings.flatten(0, 1), negatives, **sizes)])
    total = world.total(share)
    loss, norm, square, teaching_mean, *rest = (total[: len(scalars)] / world.world_size).tolist()
    terms = {name: TermMeans(*rest[6 * i : 6 * i + 6]) for i, name in enumerate(found.terms)}
    diagnostics = None
    if diagnosed:
        diagnostics = diagnose(total[len(scalars) :], dim=embeddings.shape[2], terms=tuple(terms), **sizes)
    return StepResult(
        loss,
        terms,
        update.gradient_norm,
        norm,
        update.skipped,
        embedding_norm_deviation=max(0.0, square - norm**2) ** 0.5,
        loss_scale=update.loss_scale,
        distillation=None if distilled is None else teaching_mean,
        diagnostics=diagnostics,
        phase_seconds=clock.seconds(),
        sent_bytes=found.sent_bytes,
    )
