"""What cannot be used is refused, with the same message on all ranks."""

from collections.abc import Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor

from octoscale.errors import OctoscaleError
from octoscale.loss.distance import METRICS, Metric
from octoscale.loss.exchange import Exchange
from octoscale.loss.mining import TERMS, Side


def check_options(margin: float, metric: str, terms: Sequence[str]) -> None:
    """Raises OctoscaleError for options that no batch would make usable."""
    if metric not in METRICS:
        raise OctoscaleError(f"unknown metric {metric!r}; use one of {', '.join(get_args(Metric))}")
    unknown = [term for term in terms if term not in TERMS]
    if unknown or not terms or len(set(terms)) < len(terms):
        raise OctoscaleError(f"terms must be distinct and from {', '.join(TERMS)}, at least one; got {tuple(terms)}")
    if not (margin >= 0 and margin < float("inf")):
        raise OctoscaleError(f"margin must be a finite number ≥ 0, not {margin}")


def check_tensors(high: Tensor, low: Tensor, identities: Tensor) -> None:
    """Raises OctoscaleError for shapes, types or devices that do not fit together."""
    if high.ndim != 2 or high.shape != low.shape or identities.shape != high.shape[:1] or not high.numel():
        raise OctoscaleError(
            "high and low must be [B, d] and identities [B], not empty; "
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


def agree(vectors: Mapping[Side, Tensor], exchange: Exchange, *, wants_gradient: bool) -> tuple[float, bool]:
    """One exchange of facts between the ranks, before the first exchange of rows.

    Args:
        vectors: by side, [n, d], projected embeddings of this rank.
        exchange: with the other ranks, whose numbers of rows may still differ.
        wants_gradient: of this rank.

    Returns:
        A number that no norm on any rank exceeds, and whether any of them wants a gradient.

    Raises:
        OctoscaleError: on every rank: numbers of rows or dimensions differ, or embeddings are NaN or infinite.
    """
    rows, dim = vectors["high"].shape
    facts = [torch.tensor([rows, dim, wants_gradient], dtype=torch.float64, device=vectors["high"].device)]
    for side in vectors.values():
        # NaN where one coordinate is. No squares, which would overflow or vanish.
        peaks = torch.linalg.vector_norm(side, ord=torch.inf, dim=1).double()
        bad = ~peaks.isfinite()
        facts.append(torch.stack([peaks.max(), bad.sum().double(), bad.int().argmax().double()]))
    table = exchange.gather(torch.cat(facts)).tolist()
    for rank, (other_rows, other_dim, *_) in enumerate(table):
        if (other_rows, other_dim) != tuple(table[0][:2]):
            raise OctoscaleError(
                f"rank {rank} gives {int(other_rows)} embeddings of length {int(other_dim)}, rank 0 "
                f"{int(table[0][0])} of length {int(table[0][1])}; all ranks must give as many of one length"
            )
    for number, side_name in enumerate(vectors):
        counts = [int(facts[4 + 3 * number]) for facts in table]
        if any(counts):
            rank = next(rank for rank, count in enumerate(counts) if count)
            first = rank * rows + int(table[rank][5 + 3 * number])
            raise OctoscaleError(
                f"{sum(counts)} of {len(table) * rows} {side_name} embeddings are NaN or infinite, the first is "
                f"row {first}; lower the learning rate or check the images of that row"
            )
    return max(max(facts[3], facts[6]) for facts in table) * dim**0.5, any(facts[2] for facts in table)
