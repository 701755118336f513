"""The nearest negatives of every anchor over the global batch: indices only (paper §3.2, Eq. 6–10)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from octoscale.loss.exchange import Exchange
from octoscale.loss.groups import Groups
from octoscale.loss.keys import NONE, merge
from octoscale.loss.refinement import refine
from octoscale.loss.rows import Rows, coarse_dtype, prepare
from octoscale.loss.screening import Backend, Bound, screen

Side = Literal["high", "low"]
SIDES: tuple[Side, Side] = ("high", "low")

# Term ─▶ (resolution of the anchor, resolution of positive and negative); Eq. 7–10.
TERMS: Mapping[str, tuple[Side, Side]] = {
    "hhh": ("high", "high"),
    "hll": ("high", "low"),
    "lhh": ("low", "high"),
    "lll": ("low", "low"),
}
_TERM_OF = {sides: term for term, sides in TERMS.items()}


@dataclass(frozen=True)
class Tiling:
    """How the distance matrix is cut; the choice of negatives does not depend on it.

    Attributes:
        tile: rows and columns of a tile; a multiple of `segment`.
        segment: candidates that share one lower bound.
        dtype: precision of the first pass.
        backend: of the first pass.
        party: rows of other ranks that are searched at once, where one rank has fewer.
    """

    tile: int
    segment: int
    dtype: torch.dtype
    backend: Backend = "torch"
    party: int = 4096

    @classmethod
    def fitting(cls, vectors: Tensor) -> "Tiling":
        """For one rank's rows [n, d]."""
        # Bounding all segments of an anchor and searching one of them are balanced at √n.
        segment = 2 ** min(10, max(4, round(len(vectors).bit_length() / 2)))
        dtype = coarse_dtype(vectors.device, vectors.dtype)
        if vectors.device.type == "cuda":
            fused = dtype != torch.float64 and find_spec("triton") is not None
            return cls(4096, max(128, segment), dtype, "triton" if fused else "torch", party=16384)
        # A tile of bf16, 2 MiB, stays in the caches.
        return cls(max(segment, 1024), segment, dtype)


@dataclass(frozen=True)
class _Block:
    """The rows of one rank or of several, sorted by label, and what is known of their neighbours.

    Attributes:
        order: int64 [n], place of each sorted row among these rows; None where they are sorted as they are.
        keys: by term, int64 [n, count], sorted as the rows are, changed in place.
        floors: by term, fp32 [n], sorted as the rows are.
    """

    sides: Mapping[Side, Rows]
    order: Tensor | None
    keys: Mapping[str, Tensor]
    floors: Mapping[str, Tensor] | None

    def result(self, term: str) -> Tensor:
        """The keys of a term, rank by rank in their own order."""
        keys = self.keys[term]
        return keys if self.order is None else torch.empty_like(keys).index_copy_(0, self.order, keys)


class NegativeSearch:
    """The nearest negatives of this rank's rows among all ranks' rows.

    Args:
        groups: of the global batch.
        exchange: with the other ranks.
        tiling: of the work.
        scale: `Rows.scale`, the same on all ranks.
        terms: which of TERMS.
        count: how many negatives of each anchor.
    """

    def __init__(
        self, groups: Groups, exchange: Exchange, tiling: Tiling, *, scale: float, terms: Sequence[str], count: int
    ) -> None:
        self._groups = groups
        self._exchange = exchange
        self._tiling = tiling
        self._scale = scale
        self._terms = terms
        self._count = count

    @torch.no_grad()
    def nearest(self, vectors: Mapping[Side, Tensor], floors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Keys of the nearest negatives, by term: int64 [n, count], ascending; NONE where there are not so many.

        Args:
            vectors: by side, [n, d], this rank's projected embeddings.
            floors: by term, fp32 [n]: squared distance (scaled) that a negative must exceed; None for no limit.
        """
        exchange = self._exchange
        # Distances do not see the centre: each rank may take its own.
        center = torch.stack([rows.mean(0) for rows in vectors.values()]).mean(0)
        own = self._block([exchange.rank], vectors, floors, center)
        for sides in (("high", "high"), ("low", "low"), ("high", "low")):
            self._meet(own, own, *sides)
        answers: dict[int, Tensor] = {}
        # By term the floors, after the two sides' rows.
        luggage = [*(vectors[side] for side in SIDES), *(floors[term] for term in self._terms if floors is not None)]
        for owners, tensors in self._parties(luggage):
            their_floors = None if floors is None else dict(zip(self._terms, tensors[2:], strict=True))
            visitors = self._block(owners, dict(zip(SIDES, tensors[:2], strict=True)), their_floors, center)
            for own_side, their_side in self._share(owners[0]):
                self._meet(own, visitors, own_side, their_side)
            keys = torch.stack([visitors.result(term) for term in self._terms])
            answers.update(zip(owners, keys.split(exchange.rows, dim=1), strict=True))
        found = torch.stack([own.result(term) for term in self._terms])
        for answer in exchange.deliver(answers, found):
            found = merge(found, answer)
        return dict(zip(self._terms, found, strict=True))

    def _parties(self, luggage: Sequence[Tensor]) -> Iterator[tuple[list[int], list[Tensor]]]:
        """(Owners, their tensors one after the other) of visitors that are searched at once.

        Meeting a block takes thousands of small operations whatever its size: many ranks with few rows each would do
        little else.
        """
        owners: list[int] = []
        arrived: list[list[Tensor]] = []
        for owner, tensors in self._exchange.visits(luggage):
            full = (len(owners) + 1) * self._exchange.rows > self._tiling.party
            if owners and (full or self._meets_twice(owner)):
                yield owners, _joined(arrived)
                owners, arrived = [], []
            owners.append(owner)
            arrived.append(tensors)
        if owners:
            yield owners, _joined(arrived)

    def _meets_twice(self, owner: int) -> bool:
        """Opposite ranks of an even number visit each other."""
        return 2 * abs(owner - self._exchange.rank) == self._exchange.world_size

    def _share(self, owner: int) -> Iterator[tuple[Side, Side]]:
        """Which sides of this rank meet which sides of a visitor: all, but half where the two meet on both ranks."""
        exchange, shared = self._exchange, self._meets_twice(owner)
        for own_side in SIDES:
            for their_side in SIDES:
                side_of_lower_rank = own_side if exchange.rank < owner else their_side
                if not shared or side_of_lower_rank == ("high" if exchange.rank < owner else "low"):
                    yield own_side, their_side

    def _meet(self, x: _Block, y: _Block, x_side: Side, y_side: Side) -> None:
        """All distances between a side of x and one of y: each tile serves a term of rows and one of columns."""
        if _TERM_OF[x_side, y_side] not in self._terms:
            x, y, x_side, y_side = y, x, y_side, x_side
        ahead, back = _TERM_OF[x_side, y_side], _TERM_OF[y_side, x_side]
        if ahead not in self._terms:
            return
        a, b = x.sides[x_side], y.sides[y_side]
        both = back in self._terms and a is not b
        segment = self._tiling.segment
        minima, back_minima = screen(
            a, b, segment=segment, tile=self._tiling.tile, backend=self._tiling.backend, both=both,
            anchor_limits=None if x.floors is None else Bound.of(a, b, segment).limits(x.floors[ahead]),
            candidate_limits=None if y.floors is None or not both else Bound.of(b, a, segment).limits(y.floors[back]),
        )  # fmt: skip
        refine(x.keys[ahead], a, b, minima, floors=None if x.floors is None else x.floors[ahead])
        if both:
            refine(y.keys[back], b, a, back_minima, floors=None if y.floors is None else y.floors[back])

    def _block(
        self, owners: Sequence[int], vectors: Mapping[Side, Tensor], floors: Mapping[str, Tensor] | None, center: Tensor
    ) -> _Block:
        rows = self._exchange.rows
        device = self._groups.labels.device
        ids = torch.cat([torch.arange(owner * rows, (owner + 1) * rows, device=device) for owner in owners])
        labels = self._groups.labels[ids]
        order = None
        if bool((labels[1:] < labels[:-1]).any()):
            order = labels.argsort(stable=True)
            labels, ids = labels[order], ids[order]
            vectors = {side: source[order] for side, source in vectors.items()}
            floors = None if floors is None else {term: floor[order] for term, floor in floors.items()}
        sides = {
            side: prepare(source, ids, labels, center=center, scale=self._scale, dtype=self._tiling.dtype)
            for side, source in vectors.items()
        }
        keys = {term: torch.full((len(ids), self._count), NONE, device=device) for term in self._terms}
        return _Block(sides, order, keys, floors)


def _joined(arrived: Sequence[list[Tensor]]) -> list[Tensor]:
    """The visitors' tensors one after the other; those of a single one as they are."""
    return arrived[0] if len(arrived) == 1 else [torch.cat(parts) for parts in zip(*arrived, strict=True)]
