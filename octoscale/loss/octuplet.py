"""The octuplet loss (Knoche et al., FG 2023, §3.3): four hard-mined triplet losses over one global batch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from octoscale.loss.checks import agree, check_options, check_tensors
from octoscale.loss.closed_form import evaluate_term
from octoscale.loss.distance import Metric, project
from octoscale.loss.exchange import Exchange, Phase, untimed
from octoscale.loss.groups import Groups
from octoscale.loss.mining import SIDES, TERMS, Side, Tiling
from octoscale.loss.negatives import Negatives
from octoscale.loss.precision import trusted_products
from octoscale.loss.triplets import Table, Triplets, mine


@dataclass(frozen=True)
class TermResult:
    """One term on this rank's anchors: scalars [], detached, whose mean over the ranks is that of the global batch.

    Distances are means over the triplets' anchors, where every anchor counts: one without a negative by the rule as 0.
    `nearer_fraction` has the negative nearer than the positive, `suspect_fraction` by so much that a wrong label is
    probable (`SUSPECT_RATIO`).
    """

    loss: Tensor
    active_fraction: Tensor
    positive_distance: Tensor
    negative_distance: Tensor
    nearer_fraction: Tensor
    suspect_fraction: Tensor
    triplets: Triplets


@dataclass(frozen=True)
class Octuplet:
    """The loss [], with gradient, what it was made of, by term, and the bytes that this rank sent for it."""

    loss: Tensor
    terms: dict[str, TermResult]
    sent_bytes: int


def octuplet(
    high: Tensor,
    low: Tensor,
    identities: Tensor,
    *,
    margin: float = 25.0,
    metric: Metric = "euclidean",
    normalize: bool = False,
    terms: Iterable[str] = tuple(TERMS),
    negatives: str = "hardest",
    group: dist.ProcessGroup | None = None,
    tiling: Tiling | None = None,
    phase: Phase = untimed,
) -> Octuplet:
    """The octuplet loss with its parts. Arguments and errors are those of `octuplet_loss`.

    `tiling` cuts the work otherwise than is best here; `phase` is told when it searches (`mine`) and waits for other
    ranks (`exchange`). Neither changes a result.
    """
    terms = tuple(terms)
    check_options(margin, metric, terms)
    rule = Negatives.parse(negatives)
    check_tensors(high, low, identities)
    with torch.autocast(high.device.type, enabled=False), trusted_products():
        # Half precision may embed, but never subtracts.
        wide = torch.promote_types(high.dtype, torch.float32)
        high, low = (project(side.to(wide), metric=metric, normalize=normalize) for side in (high, low))
        vectors: dict[Side, Tensor] = {"high": high.detach(), "low": low.detach()}
        wants_gradient = torch.is_grad_enabled() and (high.requires_grad or low.requires_grad)
        exchange = Exchange(group, len(high), phase)
        largest_norm, wants_gradient = agree(vectors, exchange, wants_gradient=wants_gradient)
        groups = Groups.of(exchange.gather(identities).flatten(), negatives=rule.count)
        with phase("mine"):
            triplets = mine(
                vectors, groups, exchange,
                rule=rule, metric=metric, terms=terms, largest_norm=largest_norm, tiling=tiling,
            )  # fmt: skip
        results, gradients = _evaluate(
            vectors, triplets, groups.anchor_count, exchange,
            metric=metric, margin=margin, wants_gradient=wants_gradient,
        )  # fmt: skip
    total = torch.stack([result.loss for result in results.values()]).sum()
    if gradients is not None:
        total = _WithGradients.apply(total, high, low, *gradients)
    return Octuplet(total, results, exchange.sent_bytes)


def _evaluate(
    vectors: Mapping[Side, Tensor],
    triplets: Mapping[str, Triplets],
    anchor_count: int,
    exchange: Exchange,
    *,
    metric: Metric,
    margin: float,
    wants_gradient: bool,
) -> tuple[dict[str, TermResult], list[Tensor] | None]:
    """Each term of this rank's anchors, and the gradients [n, d] of its high and low rows from all ranks' anchors."""
    # Eq. 5 with |T| = all anchors of the global batch: the mean over ranks is the mean over anchors.
    weight = exchange.world_size / anchor_count
    tables = {side: Table.of(vectors[side], _needed(triplets, side), exchange) for side in SIDES}
    gradients = {side: torch.zeros_like(table.rows) for side, table in tables.items()} if wants_gradient else None
    results = {}
    for term, chosen in triplets.items():
        anchor_side, side = TERMS[term]
        table = tables[side]
        negatives = chosen.negatives if chosen.negatives.ndim == 2 else chosen.negatives[:, None]
        sums = evaluate_term(
            vectors[anchor_side],
            table.rows,
            (chosen.anchors - exchange.first, table.place(chosen.positives), table.place(negatives)),
            metric=metric,
            margin=margin,
            weight=weight,
            gradients=None if gradients is None else (gradients[anchor_side], gradients[side]),
        )
        loss, active, to_positive, to_negative, nearer, suspect = (sums * weight).to(table.rows.dtype).unbind()
        results[term] = TermResult(loss, active, to_positive, to_negative, nearer, suspect, chosen)
    if gradients is None:
        return results, None
    own = []
    for side, table in tables.items():
        of_own, of_fetched = gradients[side].split([exchange.rows, len(table.fetched.ids)])
        table.fetched.give_back(of_fetched, of_own)
        own.append(of_own)
    return results, own


def _needed(triplets: Mapping[str, Triplets], side: Side) -> Tensor:
    """The rows of `side` that positives and negatives are, of all terms."""
    chosen = [t for term, t in triplets.items() if TERMS[term][1] == side]
    some = next(iter(triplets.values())).anchors
    return torch.cat([some[:0], *(ids.flatten() for t in chosen for ids in (t.positives, t.negatives))])


class _WithGradients(torch.autograd.Function):
    """A number whose gradients are known already."""

    @staticmethod
    def forward(
        ctx: Any, loss: Tensor, high: Tensor, low: Tensor, high_gradient: Tensor, low_gradient: Tensor
    ) -> Tensor:
        ctx.save_for_backward(high_gradient, low_gradient)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:3]
        known = ctx.saved_tensors
        return None, *(g * gradients[0] if need else None for g, need in zip(known, needed, strict=True)), None, None


def octuplet_loss(
    high: Tensor,
    low: Tensor,
    identities: Tensor,
    *,
    margin: float = 25.0,
    metric: Metric = "euclidean",
    normalize: bool = False,
    terms: Iterable[str] = tuple(TERMS),
    negatives: str = "hardest",
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Sum over `terms` of the mean over all anchors of max(0, d(a,p) − d(a,n) + margin) (Eq. 5, 7–11).

    For each term and anchor the positive is the farthest *other* image of the anchor's identity and the
    negative is the nearest image of another identity, at the term's resolution. An identity with one
    image gives negatives but no anchor. Anchors that are inactive count as 0 in the mean.

    With `group`, the inputs are this rank's rows, equal in number on all ranks; negatives and positives
    come from all ranks, and the result is this rank's share: averaged over the ranks it is the loss of
    the global batch, and so are the gradients that DDP averages, without a factor.

    Args:
        high: float [B, d], embeddings of the high-resolution images.
        low: float [B, d], embeddings of the same images at low resolution.
        identities: int64 [B], who is on each image.
        margin: in units of the metric; the paper's optimum is 25 for `euclidean` on un-normalised embeddings.
        metric: `euclidean`, `euclidean_squared` or `cosine` (Eq. 2–4).
        normalize: put the embeddings on the unit sphere first.
        terms: any subset of hhh, hll, lhh, lll: resolution of anchor, positive, negative.
        negatives: `hardest` (the paper's), or `rank(k)`, `top_k_mean(k)`, `semihard`, `positive_aware(alpha)`, which
            survive mislabelled images: see `Negatives.parse`. An anchor without a negative by the rule counts as 0.
        group: process group over whose ranks the batch is spread.

    Returns:
        Scalar [] in fp32 (fp64 for fp64 embeddings).

    Raises:
        OctoscaleError (a ValueError): shapes, dtypes or devices that do not fit together, NaN or infinite
            embeddings, an unknown term, metric or rule, or a batch without a single triplet.
    """
    return octuplet(
        high, low, identities,
        margin=margin, metric=metric, normalize=normalize, terms=terms, negatives=negatives, group=group,
    ).loss  # fmt: skip


class OctupletLoss(nn.Module):
    """`octuplet_loss` as a module; the arguments are the same."""

    def __init__(
        self,
        *,
        margin: float = 25.0,
        metric: Metric = "euclidean",
        normalize: bool = False,
        terms: Iterable[str] = tuple(TERMS),
        negatives: str = "hardest",
        group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.margin, self.metric, self.normalize, self.terms = margin, metric, normalize, tuple(terms)
        self.negatives, self.group = negatives, group
        check_options(margin, metric, self.terms)
        Negatives.parse(negatives)

    def forward(self, high: Tensor, low: Tensor, identities: Tensor) -> Tensor:
        return octuplet_loss(
            high, low, identities,
            margin=self.margin, metric=self.metric, normalize=self.normalize, terms=self.terms,
            negatives=self.negatives, group=self.group,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"margin={self.margin}, metric={self.metric!r}, normalize={self.normalize}, terms={self.terms}, "
            f"negatives={self.negatives!r}"
        )
