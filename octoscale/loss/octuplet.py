"""The octuplet loss (Knoche et al., FG 2023, §3.3): four hard-mined triplet losses over one global batch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn

from octoscale.errors import OctoscaleError
from octoscale.loss.distance import METRICS, Metric, distance, project
from octoscale.loss.exchange import gather_rows
from octoscale.loss.mining import Triplets, mine

# Term ─▶ (resolution of the anchor, resolution of positive and negative); Eq. 7–10.
TERMS: Mapping[str, tuple[str, str]] = {
    "hhh": ("high", "high"),
    "hll": ("high", "low"),
    "lhh": ("low", "high"),
    "lll": ("low", "low"),
}


@dataclass(frozen=True)
class TermResult:
    """One term on this rank's anchors: scalars [], detached, whose mean over the ranks is that of the global batch."""

    loss: Tensor
    active_fraction: Tensor
    positive_distance: Tensor
    negative_distance: Tensor
    triplets: Triplets


@dataclass(frozen=True)
class Octuplet:
    """The loss [], with gradient, and what it was made of, by term."""

    loss: Tensor
    terms: dict[str, TermResult]


def octuplet(
    high: Tensor,
    low: Tensor,
    identities: Tensor,
    *,
    margin: float = 25.0,
    metric: Metric = "euclidean",
    normalize: bool = False,
    terms: Iterable[str] = tuple(TERMS),
    group: dist.ProcessGroup | None = None,
) -> Octuplet:
    """The octuplet loss with its parts. Arguments and errors are those of `octuplet_loss`."""
    terms = tuple(terms)
    _check(high, low, identities, margin, metric, terms)
    ranks = 1 if group is None else dist.get_world_size(group)
    first = 0 if group is None else dist.get_rank(group) * len(high)
    if group is not None:
        high, low, identities = (gather_rows(rows, group) for rows in (high, low, identities))
    # After the exchange, so that every rank sees the same fault and none is left waiting.
    _check_finite(high, low)

    with torch.autocast(high.device.type, enabled=False):
        # Half precision may embed, but never subtracts.
        wide = torch.promote_types(high.dtype, torch.float32)
        vectors = {
            "high": project(high.to(wide), metric=metric, normalize=normalize),
            "low": project(low.to(wide), metric=metric, normalize=normalize),
        }
        rows, anchor_count = _own_anchors(identities, first, len(identities) // ranks)
        results, total = {}, high.new_zeros((), dtype=wide)
        for term in terms:
            anchor_kind, other_kind = TERMS[term]
            a, other = vectors[anchor_kind], vectors[other_kind]
            triplets = mine(a, other, rows, identities)
            to_positive = distance(a[triplets.anchors], other[triplets.positives], metric=metric)
            to_negative = distance(a[triplets.anchors], other[triplets.negatives], metric=metric)
            hinge = (to_positive - to_negative + margin).clamp_min(0)
            # Eq. 5 with |T| = all anchors of the global batch: the mean over ranks is the mean over anchors.
            term_loss = hinge.sum() * (ranks / anchor_count)
            total = total + term_loss
            results[term] = TermResult(
                term_loss.detach(),
                (hinge > 0).to(wide).sum().detach() * (ranks / anchor_count),
                to_positive.detach().sum() * (ranks / anchor_count),
                to_negative.detach().sum() * (ranks / anchor_count),
                triplets,
            )
    return Octuplet(total, results)


def octuplet_loss(
    high: Tensor,
    low: Tensor,
    identities: Tensor,
    *,
    margin: float = 25.0,
    metric: Metric = "euclidean",
    normalize: bool = False,
    terms: Iterable[str] = tuple(TERMS),
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
        group: process group over whose ranks the batch is spread.

    Returns:
        Scalar [] in fp32 (fp64 for fp64 embeddings).

    Raises:
        OctoscaleError (a ValueError): shapes, dtypes or devices that do not fit together, NaN or infinite
            embeddings, an unknown term or metric, or a batch without a single triplet.
    """
    return octuplet(
        high, low, identities, margin=margin, metric=metric, normalize=normalize, terms=terms, group=group
    ).loss


class OctupletLoss(nn.Module):
    """`octuplet_loss` as a module; the arguments are the same."""

    def __init__(
        self,
        *,
        margin: float = 25.0,
        metric: Metric = "euclidean",
        normalize: bool = False,
        terms: Iterable[str] = tuple(TERMS),
        group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.margin, self.metric, self.normalize, self.terms, self.group = (
            margin, metric, normalize, tuple(terms), group,
        )  # fmt: skip
        _check_options(margin, metric, self.terms)

    def forward(self, high: Tensor, low: Tensor, identities: Tensor) -> Tensor:
        return octuplet_loss(
            high, low, identities,
            margin=self.margin, metric=self.metric, normalize=self.normalize, terms=self.terms, group=self.group,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"margin={self.margin}, metric={self.metric!r}, normalize={self.normalize}, terms={self.terms}"


def _own_anchors(identities: Tensor, first: int, count: int) -> tuple[Tensor, int]:
    """This rank's anchors as rows of the global batch, and the number of anchors on all ranks."""
    _, inverse, images = torch.unique(identities, return_inverse=True, return_counts=True)
    if len(images) < 2:
        raise OctoscaleError(
            f"all {len(identities)} images of the global batch show one identity, so no negative exists; "
            "give at least two identities"
        )
    is_anchor = images[inverse] > 1
    anchor_count = int(is_anchor.sum())
    if not anchor_count:
        raise OctoscaleError(
            f"none of the {len(images)} identities in the global batch has two images, so no positive exists; "
            "give at least two images of an identity"
        )
    own = torch.arange(first, first + count, device=identities.device)
    return own[is_anchor[own]], anchor_count


def _check_options(margin: float, metric: str, terms: tuple[str, ...]) -> None:
    if metric not in METRICS:
        raise OctoscaleError(f"unknown metric {metric!r}; use one of {', '.join(get_args(Metric))}")
    unknown = [term for term in terms if term not in TERMS]
    if unknown or not terms or len(set(terms)) < len(terms):
        raise OctoscaleError(f"terms must be distinct and from {', '.join(TERMS)}, at least one; got {terms}")
    if not (margin >= 0 and margin < float("inf")):
        raise OctoscaleError(f"margin must be a finite number ≥ 0, not {margin}")


def _check(high: Tensor, low: Tensor, identities: Tensor, margin: float, metric: str, terms: tuple[str, ...]) -> None:
    _check_options(margin, metric, terms)
    if high.ndim != 2 or high.shape != low.shape or identities.shape != high.shape[:1]:
        raise OctoscaleError(
            "high and low must be [B, d] and identities [B]; "
            f"got {tuple(high.shape)}, {tuple(low.shape)} and {tuple(identities.shape)}"
        )
    if not (high.is_floating_point() and high.dtype == low.dtype):
        raise OctoscaleError(f"high and low must be floating and of one dtype, not {high.dtype} and {low.dtype}")
    if identities.dtype != torch.int64:
        raise OctoscaleError(f"identities must be int64, not {identities.dtype}")
    if not (high.device == low.device == identities.device):
        raise OctoscaleError(
            f"high, low and identities must share a device, not {high.device}, {low.device}, {identities.device}"
        )


def _check_finite(high: Tensor, low: Tensor) -> None:
    for name, embeddings in (("high", high), ("low", low)):
        finite = torch.isfinite(embeddings).all(1)
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0])
            raise OctoscaleError(
                f"{int((~finite).sum())} of {len(embeddings)} {name} embeddings are NaN or infinite, the first is "
                f"row {row}; lower the learning rate or check the images of that row"
            )
