"""The pass over all pairs: the least distance in every segment of candidates, from coarse products."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from octoscale.loss.rows import Rows, blocks

Backend = Literal["torch", "triton"]

# Relative rounding of a stored tile, and the absolute one of the smallest numbers.
_STORE_UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-10}
_TINY = {torch.float64: 0.0, torch.float32: 2.0**-126, torch.bfloat16: 2.0**-126, torch.float16: 2.0**-14}


@dataclass(frozen=True)
class Minima:
    """For each anchor and each segment of candidates, the least coarse half squared distance.

    Attributes:
        values: [anchors, segments]; infinite where no candidate is allowed.
        segment: candidates per segment; the last segment may have fewer.
    """

    values: Tensor
    segment: int


@dataclass(frozen=True)
class Bound:
    """How far the coarse half squared distance of anchor i and a candidate may be from the true one.

    For a candidate of norm at most N whose rounding took at most r: error_i · N + norm_i · r + sums · (norm_i² + N²),
    by Cauchy-Schwarz on ⟨x, y⟩ − ⟨x̃, ỹ⟩ = ⟨x − x̃, y⟩ + ⟨x̃, y − ỹ⟩, and one rounding of the value where it is stored.
    """

    anchors: Rows
    norms: Tensor
    errors: Tensor

    @classmethod
    def of(cls, anchors: Rows, candidates: Rows, segment: int) -> "Bound":
        """Per segment of candidates."""
        norms, errors = (_segment_maxima(values, segment) for values in (candidates.norms, candidates.errors))
        return cls(anchors, norms + errors, errors)

    def absolute(self, rows: slice) -> Tensor:
        """[rows, segments]."""
        norms, errors = self.anchors.norms[rows, None], self.anchors.errors[rows, None]
        sums = self.anchors.sum_error
        squares = (norms + errors).square() + self.norms.square()
        return errors * self.norms + norms * self.errors + sums * squares + _TINY[self.anchors.coarse.dtype]

    def limits(self, floors: Tensor) -> Tensor:
        """Coarse values below these belong to candidates that are not above `floors` (fp32 [n], squared, scaled)."""
        slack = self.absolute(slice(None)).amax(1)
        unit = _STORE_UNIT[self.anchors.coarse.dtype]
        limits = (floors.to(slack.dtype) / 2 * (1 - unit) - slack).clamp_min_(0)
        # Rounded down: they are compared in the coarse type.
        return limits * (1 - 2 * unit)

    def lowest(self, minima: Minima, rows: slice) -> Tensor:
        """No candidate of the segment is nearer than this half squared distance: [rows, segments]."""
        values = minima.values[rows].to(self.norms.dtype).mul_(1 - _STORE_UNIT[minima.values.dtype])
        # No distance is below 0, so neither is a bound; rounding may have put values there.
        return values.sub_(self.absolute(rows)).clamp_min_(0)


def _segment_maxima(values: Tensor, segment: int) -> Tensor:
    padded = F.pad(values, (0, -len(values) % segment))
    return padded.view(-1, segment).amax(1)


@torch.no_grad()
def screen(
    anchors: Rows,
    candidates: Rows,
    *,
    segment: int,
    tile: int,
    backend: Backend = "torch",
    anchor_limits: Tensor | None = None,
    candidate_limits: Tensor | None = None,
    both: bool = True,
) -> tuple[Minima, Minima]:
    """One pass over the tiles of the distance matrix; every tile serves both of its sides.

    Where `anchors is candidates` only the upper triangle is computed, and the two results are one.

    Args:
        anchors, candidates: [n, d] and [m, d].
        segment: a power of two.
        tile: rows and columns of a tile, a multiple of `segment`; the triton backend has its own.
        backend: `torch`, or `triton` for one fused kernel.
        anchor_limits: [n], candidates with a coarse half squared distance below this are passed over.
        candidate_limits: [m], the same with the roles exchanged.
        both: whether the minima of the candidates over the anchors are wanted too.

    Returns:
        Minima of the anchors over the candidates, and of the candidates over the anchors.
    """
    if anchors is candidates:
        candidate_limits = anchor_limits
    if backend == "triton":
        from octoscale.loss.triton_screening import fused_minima

        forward, backward = fused_minima(
            anchors, candidates, segment=segment, both=both,
            anchor_limits=anchor_limits, candidate_limits=candidate_limits,
        )  # fmt: skip
    else:
        forward, backward = _tiled_minima(anchors, candidates, segment, tile, anchor_limits, candidate_limits, both)
    return Minima(forward, segment), Minima(backward, segment)


def _tiled_minima(
    anchors: Rows,
    candidates: Rows,
    segment: int,
    tile: int,
    anchor_limits: Tensor | None,
    candidate_limits: Tensor | None,
    both: bool,
) -> tuple[Tensor, Tensor]:
    """What `screen` gives, tile by tile."""
    symmetric = anchors is candidates
    forward = anchors.coarse.new_empty((len(anchors), -(-len(candidates) // segment)))
    # Transposed, as the reduction over rows gives it.
    backward = forward.T
    if both and not symmetric:
        backward = anchors.coarse.new_empty((-(-len(anchors) // segment), len(candidates)))
    spans = _spans(candidates, tile)
    buffer = anchors.coarse.new_empty((min(tile, len(anchors)), min(tile, len(candidates))))
    for rows, row_labels in _spans(anchors, tile):
        left = anchors.mirrored(rows)
        for columns, column_labels in spans:
            if symmetric and columns.start < rows.start:
                continue
            right = candidates.coarse[columns]
            values = buffer.flatten()[: len(left) * len(right)].view(len(left), len(right))
            torch.mm(left, right.T, out=values)
            # Labels ascend: nearly all tiles are far from the diagonal and have no identity in common.
            if row_labels[0] <= column_labels[1] and column_labels[0] <= row_labels[1]:
                own = anchors.labels[rows, None] == candidates.labels[None, columns]
                values.masked_fill_(own, torch.inf)
            forward[rows, _segments(columns, segment)] = _least_of_rows(values, segment, _part(anchor_limits, rows))
            if (symmetric and columns != rows) or (both and not symmetric):
                least = _least_of_columns(values, segment, _part(candidate_limits, columns))
                backward[_segments(rows, segment), columns] = least
    return forward, backward.T


def _least_of_rows(values: Tensor, segment: int, limits: Tensor | None) -> Tensor:
    """Least allowed value of each row in each segment of columns: [n, segments] from [n, m]."""
    if limits is not None:
        values = values.masked_fill(values < limits.to(values.dtype)[:, None], torch.inf)
    if values.shape[1] % segment:
        values = F.pad(values, (0, -values.shape[1] % segment), value=torch.inf)
    return _amin(values.unflatten(1, (-1, segment)), 2)


def _least_of_columns(values: Tensor, segment: int, limits: Tensor | None) -> Tensor:
    """Least allowed value of each column in each segment of rows: [segments, m] from [n, m]."""
    if limits is not None:
        values = values.masked_fill(values < limits.to(values.dtype)[None, :], torch.inf)
    if len(values) % segment:
        values = F.pad(values, (0, 0, 0, -len(values) % segment), value=torch.inf)
    return _amin(values.unflatten(0, (-1, segment)), 1)


def _amin(values: Tensor, dim: int) -> Tensor:
    """The least along `dim`; half precision as integers, whose order is the same from 0 up: five times as fast on CPUs.

    Below 0 there is nothing but rounding of distances near 0, and any of these will do: see `Bound.lowest`.
    """
    if values.element_size() > 2:
        return values.amin(dim)
    return values.view(torch.int16).amin(dim).view(values.dtype)


def _spans(rows: Rows, tile: int) -> list[tuple[slice, tuple[int, int]]]:
    """Each block of rows, with its first and last label."""
    parts = blocks(len(rows), tile)
    # One transfer from the device.
    ends = rows.labels[[end for part in parts for end in (part.start, part.stop - 1)]].tolist()
    return list(zip(parts, zip(ends[::2], ends[1::2], strict=True), strict=True))


def _segments(columns: slice, segment: int) -> slice:
    return slice(columns.start // segment, -(-columns.stop // segment))


def _part(limits: Tensor | None, rows: slice) -> Tensor | None:
    return None if limits is None else limits[rows]
