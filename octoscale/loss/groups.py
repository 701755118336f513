"""Who has the same identity as whom in the global batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from octoscale.errors import OctoscaleError


@dataclass(frozen=True)
class Groups:
    """The rows of the global batch by identity.

    Attributes:
        labels: int32 [B], identities numbered by their first appearance.
        order: int64 [B], rows by label, ascending within one.
        starts, sizes: int64 [identities], each one's part of `order`.
    """

    labels: Tensor
    order: Tensor
    starts: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, identities: Tensor, *, negatives: int) -> "Groups":
        """Group int64 [B].

        Raises:
            OctoscaleError: no anchor has a positive, or one has fewer than `negatives` negatives.
        """
        _, inverse, sizes = torch.unique(identities, return_inverse=True, return_counts=True)
        if len(sizes) < 2:
            raise OctoscaleError(
                f"all {len(identities)} images of the global batch show one identity, so no negative exists; "
                "give at least two identities"
            )
        most = int(sizes.max())
        if most < 2:
            raise OctoscaleError(
                f"none of the {len(sizes)} identities in the global batch has two images, so no positive exists; "
                "give at least two images of an identity"
            )
        if len(identities) - most < negatives:
            raise OctoscaleError(
                f"the {negatives} nearest negatives are asked for, but an identity with {most} of the global batch's "
                f"{len(identities)} images has only {len(identities) - most}; ask for fewer, or enlarge the batch"
            )
        # Numbered by first appearance: the batches of a plan, two images side by side, are in order as they come.
        rows = torch.arange(len(inverse), device=inverse.device)
        by_appearance = torch.full_like(sizes, len(rows)).scatter_reduce_(0, inverse, rows, "amin").argsort()
        numbers = torch.empty_like(by_appearance).scatter_(
            0, by_appearance, torch.arange(len(sizes), device=sizes.device)
        )
        labels, sizes = numbers[inverse], sizes[by_appearance]
        return cls(labels.int(), labels.argsort(stable=True), sizes.cumsum(0) - sizes, sizes)

    def anchors(self, rows: Tensor) -> Tensor:
        """Those of `rows` (int64 [n], of the global batch) that have another image of their identity."""
        return rows[self.sizes[self.labels[rows].long()] > 1]

    @property
    def anchor_count(self) -> int:
        """How many rows of the global batch have a positive."""
        return int(self.sizes[self.sizes > 1].sum())

    def span_ranks(self, rows_per_rank: int) -> bool:
        """Whether some identity has images on two ranks: the same answer everywhere."""
        ranks = self.order // rows_per_rank
        return bool((ranks[self.starts] != ranks[self.starts + self.sizes - 1]).any())

    def positives(self, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Every (anchor, other row of its identity): int64 [p], places in `anchors`, ascending, and int64 [p], rows."""
        labels = self.labels[anchors].long()
        sizes = self.sizes[labels]
        places = torch.arange(len(anchors), device=anchors.device).repeat_interleave(sizes)
        within = torch.arange(len(places), device=anchors.device) - (sizes.cumsum(0) - sizes)[places]
        rows = self.order[self.starts[labels][places] + within]
        others = rows != anchors[places]
        return places[others], rows[others]
