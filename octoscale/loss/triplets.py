"""The triplets of every term: the farthest positive and the negatives of the rule, over the global batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octoscale.loss.distance import Metric
from octoscale.loss.exchange import Exchange, Fetched
from octoscale.loss.groups import Groups
from octoscale.loss.keys import NONE, key_id, squared_distances
from octoscale.loss.mining import SIDES, TERMS, NegativeSearch, Side, Tiling
from octoscale.loss.negatives import Negatives
from octoscale.loss.rows import scale_for


@dataclass(frozen=True)
class Triplets:
    """Rows of the global batch: int64 [t] each, in ascending order of anchors.

    `negatives` is int64 [t, k] where the mean distance of k negatives counts.
    """

    anchors: Tensor
    positives: Tensor
    negatives: Tensor


@dataclass(frozen=True)
class Table:
    """This rank's rows of one side, and those of other ranks that it needs.

    Attributes:
        rows: [n + m, d], its own first.
        first: row of the global batch of its first row.
    """

    rows: Tensor
    own: int
    first: int
    fetched: Fetched

    @classmethod
    def of(cls, source: Tensor, ids: Tensor, exchange: Exchange) -> "Table":
        """With the rows `ids` (int64, of the global batch, any order and number of times)."""
        elsewhere = ids[(ids < exchange.first) | (ids >= exchange.first + exchange.rows)].unique()
        fetched = exchange.fetch(elsewhere, source)
        rows = torch.cat([source, fetched.rows]) if len(elsewhere) else source
        return cls(rows, len(source), exchange.first, fetched)

    def place(self, ids: Tensor) -> Tensor:
        """Where in `rows` the rows `ids` of the global batch are."""
        here = ids - self.first
        if not len(self.fetched.ids):
            return here
        away = torch.searchsorted(self.fetched.ids, ids.contiguous()) + self.own
        return torch.where((here >= 0) & (here < self.own), here, away)


@torch.no_grad()
def mine(
    vectors: Mapping[Side, Tensor],
    groups: Groups,
    exchange: Exchange,
    *,
    rule: Negatives,
    metric: Metric,
    terms: Sequence[str],
    largest_norm: float,
    tiling: Tiling | None = None,
) -> dict[str, Triplets]:
    """The triplets of this rank's anchors, by term.

    Positive: the farthest other image of the anchor's identity (at two images per identity, the other one).
    Negatives: those of `rule`. Ties go to the lowest row. Distances are those of the fp32 (or fp64) embeddings,
    exact: the choice depends on no tile, precision or number of ranks.

    Args:
        vectors: by side, [n, d], projected embeddings of this rank.
        largest_norm: at least that of any vector on any rank, the same on all.

    Returns:
        Triplets of those anchors that have a negative by the rule.
    """
    scale = scale_for(largest_norm)
    own = torch.arange(exchange.first, exchange.first + exchange.rows, device=groups.labels.device)
    anchors = groups.anchors(own)
    positives, squared = _positives(vectors, groups, anchors, exchange, terms, scale, rule.factor is not None)
    floors = None
    if rule.factor is not None:
        floors = {
            term: torch.full((exchange.rows,), torch.inf, device=own.device).index_copy_(
                0, anchors - exchange.first, _floor(squared[term], rule, metric)
            )
            for term in terms
        }
    tiling = tiling or Tiling.fitting(vectors["high"])
    search = NegativeSearch(groups, exchange, tiling, scale=scale, terms=terms, count=rule.count)
    triplets = {}
    for term, keys in search.nearest(vectors, floors).items():
        keys = keys[anchors - exchange.first]
        found = keys[:, -1] != NONE
        negatives = key_id(keys[found])
        triplets[term] = Triplets(
            anchors[found], positives[term][found], negatives if rule.mean and rule.count > 1 else negatives[:, -1]
        )
    return triplets


def _floor(positive_squared: Tensor, rule: Negatives, metric: Metric) -> Tensor:
    """The squared distance that a negative must exceed."""
    assert rule.factor is not None
    # d(a,n) ≥ α d(a,p) is d² ≥ α² d² for a distance, and d² ≥ α d² for one that is a multiple of d².
    floors = positive_squared * (rule.factor**2 if metric == "euclidean" else rule.factor)
    return floors if rule.strict else torch.nextafter(floors, torch.full_like(floors, -torch.inf))


def _positives(
    vectors: Mapping[Side, Tensor],
    groups: Groups,
    anchors: Tensor,
    exchange: Exchange,
    terms: Sequence[str],
    scale: float,
    measure: bool,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """By term: int64 [t], the farthest positive of each anchor; and fp32 [t], its squared distance (scaled).

    Nothing is measured where no anchor has a choice, unless `measure` asks for the distances.
    """
    places, rows = groups.positives(anchors)
    if int(groups.sizes.max()) == 2 and not measure:
        return dict.fromkeys(terms, rows), {}
    tables = {side: _table_of_positives(vectors[side], rows, groups, exchange) for side in SIDES}
    positives, squared = {}, {}
    for term in terms:
        anchor_side, side = TERMS[term]
        found = squared_distances(
            vectors[anchor_side], tables[side].rows, (anchors - exchange.first)[places], tables[side].place(rows), scale
        )
        # The largest key is the farthest positive, the lowest row among equals.
        keys = found.view(torch.int32).long() << 32 | (0xFFFFFFFF - rows)
        best = torch.zeros_like(anchors).scatter_reduce_(0, places, keys, "amax", include_self=False)
        positives[term] = 0xFFFFFFFF - key_id(best)
        squared[term] = (best >> 32).int().view(torch.float32)
    return positives, squared


def _table_of_positives(source: Tensor, rows: Tensor, groups: Groups, exchange: Exchange) -> Table:
    # All ranks know whether any of them needs another's rows.
    return Table.of(source, rows if groups.span_ranks(exchange.rows) else rows[:0], exchange)
