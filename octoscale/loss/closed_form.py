"""The value of one term and its gradient, written out: no graph, no matrix of differences is kept."""

import torch
from torch import Tensor

from octoscale.loss.distance import Metric, distance_and_slope
from octoscale.loss.rows import blocks, rows_at_once

# A negative at less than half the positive's squared distance: the anchor or the positive is probably mislabelled.
SUSPECT_RATIO = 0.5


@torch.no_grad()
def evaluate_term(
    anchors: Tensor,
    others: Tensor,
    triplets: tuple[Tensor, Tensor, Tensor],
    *,
    metric: Metric,
    margin: float,
    weight: float,
    gradients: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Σ max(0, d(a,p) − d(a,n) + margin) (Eq. 5), from direct differences; adds `weight` times its gradient.

    With u = ∂d/∂a for a pair: the anchor gets u_p − mean u_n, the positive −u_p, each of its negatives u_n
    divided by their number.

    Args:
        anchors: [n, d], projected embeddings.
        others: [m, d], projected embeddings that positives and negatives are rows of.
        triplets: int64 [t], rows of `anchors`; int64 [t] and [t, k], rows of `others`. With several
            negatives d(a,n) is the mean of theirs.
        gradients: [n, d] and [m, d], added to; None where none is wanted.

    Returns:
        fp64 [6], sums over the triplets: of the hinge, of the active ones, of d(a,p), of d(a,n), of those whose
            negative is nearer than the positive, and of those where it is suspiciously so (`SUSPECT_RATIO`).
    """
    ranked = triplets[2].T.contiguous()
    suspect_ratio = SUSPECT_RATIO**0.5 if metric == "euclidean" else SUSPECT_RATIO
    sums = torch.zeros(6, dtype=torch.float64, device=anchors.device)
    for part in blocks(len(triplets[0]), rows_at_once(anchors.device, 2 * anchors[0].nbytes)):
        anchor, positive, *negatives = (rows[part] for rows in (*triplets[:2], *ranked))
        a = anchors.index_select(0, anchor)
        to_positive = a - others.index_select(0, positive)
        to_negatives = [a - others.index_select(0, negative) for negative in negatives]
        positive_distance, positive_slope = distance_and_slope(to_positive, metric=metric)
        measured = [distance_and_slope(difference, metric=metric) for difference in to_negatives]
        negative_distance = torch.stack([distance for distance, _ in measured]).mean(0)
        hinge = (positive_distance - negative_distance + margin).clamp_min(0)
        active = hinge > 0
        shares = [active, negative_distance < positive_distance, negative_distance < suspect_ratio * positive_distance]
        active_share, *near_shares = (share.to(hinge.dtype) for share in shares)
        parts = torch.stack([hinge, active_share, positive_distance, negative_distance, *near_shares])
        sums += parts.sum(1, dtype=torch.float64)
        if gradients is not None:
            for_anchors, for_others = gradients
            factor = active_share * weight
            toward = to_positive.mul_((positive_slope * factor)[:, None])
            for_others.index_add_(0, positive, toward, alpha=-1)
            for k, (_, slope) in enumerate(measured):
                away = to_negatives[k].mul_((slope * factor / len(negatives))[:, None])
                for_others.index_add_(0, negatives[k], away)
                toward.sub_(away)
            for_anchors.index_add_(0, anchor, toward)
    return sums
