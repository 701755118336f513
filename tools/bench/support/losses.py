"""The octuplet loss four ways, and the matrix products that any of them needs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import octoscale

MARGIN = 25.0
GEMM_TILE = 1024

# (high [B, d], low [B, d], identities [B]) -> loss []
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def octoscale_loss(high: Tensor, low: Tensor, identities: Tensor) -> Tensor:
    return octoscale.octuplet_loss(high, low, identities, margin=MARGIN)


def cdist_loss(high: Tensor, low: Tensor, identities: Tensor) -> Tensor:
    """What one writes first: a matrix of distances for each term, mined and differentiated through it."""
    same = identities[:, None] == identities[None, :]
    own = torch.eye(len(high), dtype=torch.bool, device=high.device)
    loss = high.new_zeros(())
    for anchors, others in ((high, high), (high, low), (low, high), (low, low)):
        loss = loss + _batch_hard(torch.cdist(anchors, others), same, own)
    return loss


def one_matrix_loss(high: Tensor, low: Tensor, identities: Tensor) -> Tensor:
    """The shape of the authors' code: one 2B × 2B matrix from inner products, of which each term mines a quadrant."""
    count = len(high)
    both = torch.cat([high, low])
    products = both @ both.T
    norms = products.diagonal()
    squared = (norms[:, None] - 2 * products + norms[None, :]).clamp_min(0)
    # The root has no gradient at 0: the diagonal steps aside, as in the authors' TensorFlow code.
    zero = squared == 0
    distances = (squared + zero * 1e-16).sqrt() * ~zero
    same = identities[:, None] == identities[None, :]
    own = torch.eye(count, dtype=torch.bool, device=high.device)
    high_rows, low_rows = slice(0, count), slice(count, None)
    loss = high.new_zeros(())
    for rows in (high_rows, low_rows):
        for columns in (high_rows, low_rows):
            loss = loss + _batch_hard(distances[rows, columns], same, own)
    return loss


def _batch_hard(distances: Tensor, same: Tensor, own: Tensor) -> Tensor:
    positive = distances.masked_fill(~same | own, -torch.inf).max(1).values
    negative = distances.masked_fill(same, torch.inf).min(1).values
    return (positive - negative + MARGIN).clamp_min(0).mean()


class PytorchMetricLearning:
    """Its batch-hard miner and its triplet loss, once per term; inactive anchors count as 0, as in ours."""

    def __init__(self) -> None:
        from pytorch_metric_learning.distances import LpDistance
        from pytorch_metric_learning.losses import TripletMarginLoss
        from pytorch_metric_learning.miners import BatchHardMiner
        from pytorch_metric_learning.reducers import MeanReducer

        distance = LpDistance(normalize_embeddings=False)
        self._miner: Any = BatchHardMiner(distance=distance)
        self._loss: Any = TripletMarginLoss(margin=MARGIN, distance=distance, reducer=MeanReducer())

    def __call__(self, high: Tensor, low: Tensor, identities: Tensor) -> Tensor:
        loss = high.new_zeros(())
        for anchors, others in ((high, high), (high, low), (low, high), (low, low)):
            # The very same labels for both: an image is then no positive of its own low-resolution self.
            reference = {} if anchors is others else {"ref_emb": others, "ref_labels": identities}
            triplets = self._miner(anchors, identities, **reference)
            loss = loss + self._loss(anchors, identities, triplets, **reference)
        return loss


# In the order of the tables; made when used, since a peer may not be installed.
LOSSES: dict[str, Callable[[], Loss]] = {
    "octoscale": lambda: octoscale_loss,
    "cdist": lambda: cdist_loss,
    "pytorch_metric_learning": PytorchMetricLearning,
    "one_matrix": lambda: one_matrix_loss,
}


def needed_flops(batch: int, dim: int) -> int:
    """Of the products between all pairs of 2B embeddings, each pair once: 4 B² d."""
    return 4 * batch**2 * dim


def bare_products(both: Tensor) -> None:
    """The upper triangle of the matrix of inner products of `both` [2B, d], tile by tile, and nothing else.

    Tiles on the diagonal are computed whole: at 2B = n tiles the work is (n + 1) / n of `needed_flops`.
    """
    tiles = both.split(GEMM_TILE)
    out = both.new_empty(len(tiles[0]) * len(tiles[0]))
    for i, rows in enumerate(tiles):
        for columns in tiles[i:]:
            torch.mm(rows, columns.T, out=out[: len(rows) * len(columns)].view(len(rows), len(columns)))


def embeddings(batch: int, dim: int, device: torch.device, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Made-up embeddings of B/2 identities with two images each, in form like those of a trained face network.

    Norms are about 20. As in real embeddings few directions carry most of the spread, so that some identities
    look much like others; images are of mixed quality, and low resolution adds to the spread within an identity.
    At margin 25 most anchors are active, and some are not.

    Returns:
        high and low, float32 [B, d], and identities, int64 [B], the two images of an identity side by side.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: int) -> Tensor:
        values = torch.randn(rows, dim, generator=generator) * spectrum
        return values / values.square().sum(1).mean().sqrt()

    spectrum = (torch.arange(dim) + 16.0).rsqrt()
    identities = torch.arange(batch // 2).repeat_interleave(2)
    centres = 20 * draw(batch // 2)[identities]
    quality = torch.rand(batch, 1, generator=generator)
    high = centres + (0.5 + 11 * quality) * draw(batch)
    low = high + (1 + 8 * quality) * draw(batch)
    return high.to(device), low.to(device), identities.to(device)
