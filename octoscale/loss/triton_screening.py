"""The pass over all pairs as one fused kernel: product, distances and least values never leave the chip.

The only importer of triton.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from octoscale.loss.rows import Rows

_BLOCK = 128
_GROUP = 8
_INFINITE_BITS = 0x7F800000


# Triton takes tensors for pointers and None for what is left out: no annotation fits both sides of the call.
@triton.jit
def _kernel(  # type: ignore[no-untyped-def]
    x, y, x_half, y_half, x_label, y_label, x_limit, y_limit, forward, backward,
    n, m, dim, x_stride, y_stride, forward_stride, backward_stride,
    SEGMENT: tl.constexpr, SYMMETRIC: tl.constexpr, BOTH: tl.constexpr,
    X_LIMITED: tl.constexpr, Y_LIMITED: tl.constexpr,
    BLOCK: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """One tile: half squared distances of BLOCK rows of x and BLOCK rows of y, and the least of both sides."""
    # Tiles in groups of rows, so that the blocks of y stay in the second-level cache.
    tiles_m = tl.cdiv(m, BLOCK)
    group = tl.program_id(0) // (GROUP * tiles_m)
    first = group * GROUP
    height = min(tl.cdiv(n, BLOCK) - first, GROUP)
    i = first + (tl.program_id(0) % (GROUP * tiles_m)) % height
    j = (tl.program_id(0) % (GROUP * tiles_m)) // height
    if SYMMETRIC and j < i:
        return
    rows = i * BLOCK + tl.arange(0, BLOCK)
    columns = j * BLOCK + tl.arange(0, BLOCK)
    rows_in, columns_in = rows < n, columns < m
    depth = tl.arange(0, DEPTH)
    products = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, dim, DEPTH):
        inside = start + depth < dim
        a = tl.load(
            x + rows[:, None].to(tl.int64) * x_stride + (start + depth)[None, :],
            mask=rows_in[:, None] & inside[None, :], other=0.0,
        )  # fmt: skip
        b = tl.load(
            y + columns[None, :].to(tl.int64) * y_stride + (start + depth)[:, None],
            mask=columns_in[None, :] & inside[:, None], other=0.0,
        )  # fmt: skip
        products = tl.dot(a, b, products, input_precision="ieee")
    infinite = float("inf")
    half = tl.load(x_half + rows, mask=rows_in, other=infinite)[:, None]
    half = half + tl.load(y_half + columns, mask=columns_in, other=infinite)[None, :]
    # No distance is below 0; from 0 up the bits of floats are in their order.
    values = tl.maximum(half - products, 0.0)
    row_labels = tl.load(x_label + rows, mask=rows_in, other=-1)
    column_labels = tl.load(y_label + columns, mask=columns_in, other=-2)
    values = tl.where(row_labels[:, None] == column_labels[None, :], infinite, values)

    least = values
    if X_LIMITED:
        limits = tl.load(x_limit + rows, mask=rows_in, other=0.0)
        least = tl.where(values < limits[:, None], infinite, values)
    bits = tl.min(least, axis=1).to(tl.int32, bitcast=True)
    place = rows.to(tl.int64) * forward_stride + j * BLOCK // SEGMENT
    tl.atomic_min(forward + place, bits, mask=rows_in)
    if BOTH:
        least = values
        if Y_LIMITED:
            limits = tl.load(y_limit + columns, mask=columns_in, other=0.0)
            least = tl.where(values < limits[None, :], infinite, values)
        bits = tl.min(least, axis=0).to(tl.int32, bitcast=True)
        place = columns.to(tl.int64) * backward_stride + i * BLOCK // SEGMENT
        tl.atomic_min(backward + place, bits, mask=columns_in)


def fused_minima(
    anchors: Rows,
    candidates: Rows,
    *,
    segment: int,
    anchor_limits: Tensor | None,
    candidate_limits: Tensor | None,
    both: bool,
) -> tuple[Tensor, Tensor]:
    """What `screen` gives, fp32: [n, segments of candidates] and [m, segments of anchors].

    Args:
        segment: a power of two, 16 or more.
    """
    symmetric = anchors is candidates
    device = anchors.coarse.device
    block = min(_BLOCK, segment)

    def infinite(rows: Rows, others: Rows) -> Tensor:
        shape = (len(rows), triton.cdiv(len(others), segment))
        return torch.full(shape, _INFINITE_BITS, dtype=torch.int32, device=device)

    forward = infinite(anchors, candidates)
    backward = infinite(candidates, anchors) if both and not symmetric else forward
    tiles = triton.cdiv(len(anchors), block) * triton.cdiv(len(candidates), block)
    arguments: dict[str, Any] = {} if block < _BLOCK else {"num_warps": 8, "num_stages": 3}
    # A tile on the diagonal of a symmetric matrix gives its rows twice: the least of equals is the same.
    _kernel[(tiles,)](
        anchors.coarse, candidates.coarse, anchors.squares.float() / 2, candidates.squares.float() / 2,
        anchors.labels, candidates.labels, anchor_limits, candidate_limits, forward, backward,
        len(anchors), len(candidates), anchors.dim, anchors.coarse.stride(0), candidates.coarse.stride(0),
        forward.stride(0), backward.stride(0),
        SEGMENT=segment, SYMMETRIC=symmetric, BOTH=both or symmetric,
        X_LIMITED=anchor_limits is not None, Y_LIMITED=candidate_limits is not None,
        BLOCK=block, DEPTH=64, GROUP=_GROUP, **arguments,
    )  # fmt: skip
    return forward.view(torch.float32), backward.view(torch.float32)
