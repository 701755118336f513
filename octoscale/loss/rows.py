"""Embeddings made ready for the search of neighbours: a coarse copy to multiply, and how far it may be off."""

import math
from dataclasses import dataclass
from functools import cache
from time import perf_counter

import torch
from torch import Tensor

# Temporary values of work that is done in parts: in the caches, or enough for a GPU's launches to pay.
_CPU_BYTES, _GPU_BYTES = 4 * 2**20, 256 * 2**20
# Half the squared norm is carried by this many numbers of the coarse type, so that none of its 24 bits is lost.
_PARTS = {torch.float64: 1, torch.float32: 1, torch.bfloat16: 3, torch.float16: 3}
# Coarse products are summed in fp32 (fp64 for fp64), each sum correctly rounded.
_SUM_UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-24, torch.float16: 2.0**-24}


@dataclass(frozen=True)
class Rows:
    """The embeddings of one resolution on one rank, sorted by identity.

    `coarse` holds (x, h, 1): the centred embedding x in a low precision, h = |x|²/2 in parts, and ones, so that
    one matrix product gives half the squared distance of all pairs: (−x, 1, h) · (y, h, 1) = |x − y|²/2.

    Attributes:
        source: [n, d], the embeddings as they are.
        centred: [n, d], less their centre, which distances do not see but rounding does, times `scale`.
        scale: a power of two, so that the largest norm is at most 128: nothing overflows.
        ids: int64 [n], row of the global batch.
        labels: int32 [n], ascending; equal for one identity, on all ranks.
        coarse: [n, k], coarse type.
        squares: [n], squared norms of the centred embeddings, scaled.
        norms: [n], of the coarse embeddings, rounded up.
        errors: [n], norm of what coarse rounding took away, rounded up.
    """

    source: Tensor
    centred: Tensor
    scale: float
    ids: Tensor
    labels: Tensor
    coarse: Tensor
    squares: Tensor
    norms: Tensor
    errors: Tensor

    def __len__(self) -> int:
        return len(self.source)

    @property
    def dim(self) -> int:
        return self.source.shape[1]

    def centred_at(self, rows: Tensor) -> Tensor:
        """`centred` of `rows`: [*rows.shape, d]."""
        chosen: Tensor = self.centred.index_select(0, rows.flatten()).unflatten(0, rows.shape)
        return chosen

    def mirrored(self, rows: slice) -> Tensor:
        """(−x, 1, h) of `rows`: the left factor of the product with `coarse`."""
        block = self.coarse[rows]
        dim, parts = self.dim, _PARTS[block.dtype]
        mirror = torch.empty_like(block)
        torch.neg(block[:, :dim], out=mirror[:, :dim])
        mirror[:, dim : dim + parts] = 1
        mirror[:, dim + parts : dim + 2 * parts] = block[:, dim : dim + parts]
        mirror[:, dim + 2 * parts :] = 0
        return mirror

    @property
    def sum_error(self) -> float:
        """What summing a coarse product may be off by, relative to |x|² + |y|²: k terms, each rounded twice."""
        return 2 * self.coarse.shape[1] * _SUM_UNIT[self.coarse.dtype]

    @property
    def product_error(self) -> float:
        """The same for |x|² + |y|² − 2⟨x, y⟩ of `centred` rows; centring rounds each of them once."""
        return (2 * self.dim + 16) * _SUM_UNIT[self.source.dtype]


def prepare(source: Tensor, ids: Tensor, labels: Tensor, *, center: Tensor, scale: float, dtype: torch.dtype) -> Rows:
    """Round embeddings to `dtype` and bound what that costs.

    Args:
        source: [n, d] fp32 or fp64, sorted by `labels`.
        ids, labels, center, scale: as in `Rows`.
        dtype: of the coarse copy.
    """
    count, dim = source.shape
    parts = _PARTS[dtype]
    width = -(-(dim + 2 * parts) // 8) * 8
    coarse = source.new_empty((count, width), dtype=dtype)
    centred = torch.empty_like(source)
    squares, norms, errors = (source.new_empty(count) for _ in range(3))
    # A block at a time: the temporaries stay in the cache.
    for rows in blocks(count, 1024):
        x = torch.sub(source[rows], center, out=centred[rows]).mul_(scale)
        rounded = x.to(dtype)
        coarse[rows, :dim] = rounded
        wide = rounded.to(source.dtype)
        norms[rows] = torch.linalg.vector_norm(wide, dim=1)
        errors[rows] = torch.linalg.vector_norm(wide - x, dim=1)
        squares[rows] = x.square().sum(1)
        half = squares[rows] / 2
        for part in range(parts):
            coarse[rows, dim + part] = half.to(dtype)
            half -= coarse[rows, dim + part].to(half.dtype)
    coarse[:, dim + parts :] = 0
    coarse[:, dim + parts : dim + 2 * parts] = 1
    # Norms are sums of d rounded squares themselves; the centring rounds each coordinate once.
    unit = _SUM_UNIT[source.dtype]
    norms, errors = norms * (1 + dim * unit), errors * (1 + dim * unit) + norms * unit
    return Rows(source, centred, scale, ids, labels, coarse, squares, norms, errors)


def coarse_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The type to search in: the fastest that the device multiplies. The choice of neighbours does not depend on it."""
    if dtype == torch.float64:
        return torch.float64
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if device.type == "cpu" and _bf16_is_faster() else torch.float32


@cache
def _bf16_is_faster() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AVX512-BF16, AMX): elsewhere it is emulated, many times slower."""

    def seconds(dtype: torch.dtype) -> float:
        a = torch.ones(256, 512, dtype=dtype)
        taken = []
        for _ in range(5):
            started = perf_counter()
            torch.mm(a, a.T)
            taken.append(perf_counter() - started)
        return min(taken)

    return seconds(torch.bfloat16) < 0.8 * seconds(torch.float32)


def scale_for(largest_norm: float) -> float:
    """The power of two that brings norms, before centring, to at most 64; itself at most 2¹⁰⁰, which fp32 can hold."""
    return 2.0 ** min(100, 6 - math.ceil(math.log2(largest_norm))) if largest_norm > 0 else 1.0


def rows_at_once(device: torch.device, bytes_per_row: int) -> int:
    """How many rows to work on at a time: as many as a CPU's cache holds, or as keep a GPU busy."""
    budget = _GPU_BYTES if device.type == "cuda" else _CPU_BYTES
    return max(1, budget // bytes_per_row)


def blocks(count: int, size: int) -> list[slice]:
    """`count` rows in slices of `size`."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
