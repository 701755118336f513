"""Suspicious triplets turned into a ledger: which identities, which images, and what kind of mistake.

A near negative alone proves little: profile views and poor images are far from everything, their own person
included. So each pair of identities that mining brings up is looked at as a whole, all images of the one against all
of the other:

- *misfiled image*: one image is nearer to the other identity than to its own, and nearer than strangers are;
- *same person*: the two identities as a whole are nearer to each other than strangers are (their median distance), or
  several images of each would be misfiled;
- *look-alike*: neither.

The evidence is by how much, in cosine distance.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from octoscale.noise.suspects import Suspects

Kind = Literal["same person", "misfiled image", "look-alike"]


@dataclass(frozen=True)
class Example:
    """The triplet of a pair with the smallest ratio of distances: sample ids and cosine distances."""

    anchor: int
    positive: int
    negative: int
    positive_distance: float
    negative_distance: float

    @property
    def ratio(self) -> float:
        """d(a,n) / d(a,p)."""
        return self.negative_distance / self.positive_distance


@dataclass(frozen=True)
class SuspectPair:
    """Two identities that mining found suspiciously near.

    Attributes:
        identity_a, identity_b: a < b.
        evidence: how far beyond the usual, in cosine distance; 0 or less for a look-alike.
        triplets: how often an anchor of one had a suspicious negative of the other.
        cross_distance: median over all images of the one and all of the other.
        culprit: sample id of the misfiled image; None for the other kinds.
    """

    identity_a: int
    identity_b: int
    kind: Kind
    evidence: float
    triplets: int
    cross_distance: float
    culprit: int | None
    example: Example


@dataclass(frozen=True)
class SuspectSample:
    """An image that fits another identity better than its own.

    Attributes:
        own_distance, other_distance: median to the other images of its identity, and to the suggested one's.
        triplets: suspicious triplets with this image as anchor or negative.
    """

    sample_id: int
    identity: int
    suggested_identity: int
    evidence: float
    own_distance: float
    other_distance: float
    triplets: int


@dataclass(frozen=True)
class Ledger:
    """All suspicious pairs and images, the most probable mistakes first."""

    pairs: tuple[SuspectPair, ...]
    samples: tuple[SuspectSample, ...]


def make_ledger(suspects: Suspects, embeddings: NDArray[np.float32], identity_offsets: NDArray[np.int64]) -> Ledger:
    """Look at every pair of identities among the suspicious triplets.

    Args:
        embeddings: [n, d], row = sample id.
        identity_offsets: int64 [identities + 1]; identity i has the sample ids from ``identity_offsets[i]`` up to
            ``identity_offsets[i + 1]``, at least two.
    """
    folders = _Folders(embeddings, identity_offsets)
    identities = [
        np.searchsorted(identity_offsets, ids, side="right") - 1 for ids in (suspects.anchors, suspects.negatives)
    ]
    triplets_of: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for triplet, (a, b) in enumerate(np.sort(np.stack(identities, axis=1), axis=1).tolist()):
        triplets_of[a, b].append(triplet)
    appearances = np.bincount(
        np.concatenate([suspects.anchors, suspects.negatives]), minlength=int(identity_offsets[-1])
    )

    pairs: list[SuspectPair] = []
    samples: dict[int, SuspectSample] = {}
    for (a, b), triplets in triplets_of.items():
        fit = folders.compare(a, b)
        same_evidence = suspects.stranger_distance - fit.cross_distance
        # Nearer to the other identity than to its own, and than a stranger would be.
        evidence = np.minimum(fit.own, suspects.stranger_distance) - fit.other
        culprit = int(evidence.argmax())
        convicted = evidence > 0
        of_a, of_b = int(convicted[: folders.size(a)].sum()), int(convicted[folders.size(a) :].sum())
        kind: Kind = "look-alike"
        # One misfiled image of each would be two images swapped.
        if same_evidence > 0 or min(of_a, of_b) >= 2:
            kind = "same person"
        elif evidence[culprit] > 0:
            kind = "misfiled image"
            for row in np.flatnonzero(convicted):
                sample_id, is_a = int(fit.sample_ids[row]), row < folders.size(a)
                if sample_id not in samples or samples[sample_id].evidence < evidence[row]:
                    samples[sample_id] = SuspectSample(
                        sample_id, a if is_a else b, b if is_a else a, float(evidence[row]), float(fit.own[row]),
                        float(fit.other[row]), int(appearances[sample_id]),
                    )  # fmt: skip
        pairs.append(
            SuspectPair(
                a,
                b,
                kind,
                float(max(same_evidence, evidence[culprit])),
                len(triplets),
                fit.cross_distance,
                int(fit.sample_ids[culprit]) if kind == "misfiled image" else None,
                _worst(suspects, triplets),
            )
        )
    pairs.sort(key=lambda pair: (-max(pair.evidence, 0.0), -pair.triplets, pair.example.ratio))
    return Ledger(tuple(pairs), tuple(sorted(samples.values(), key=lambda sample: -sample.evidence)))


def _worst(suspects: Suspects, triplets: list[int]) -> Example:
    ratios = suspects.negative_distances[triplets] / suspects.positive_distances[triplets]
    worst = triplets[int(ratios.argmin())]
    return Example(
        int(suspects.anchors[worst]), int(suspects.positives[worst]), int(suspects.negatives[worst]),
        float(suspects.positive_distances[worst]), float(suspects.negative_distances[worst]),
    )  # fmt: skip


@dataclass(frozen=True)
class _Comparison:
    """Two identities' images [n], those of a first: median distance to the own and to the other identity."""

    sample_ids: NDArray[np.int64]
    own: NDArray[np.float32]
    other: NDArray[np.float32]
    cross_distance: float


class _Folders:
    """The images of each identity; medians within an identity are computed once."""

    def __init__(self, embeddings: NDArray[np.float32], identity_offsets: NDArray[np.int64]) -> None:
        self._embeddings, self._offsets = embeddings, identity_offsets
        self._own: dict[int, NDArray[np.float32]] = {}

    def size(self, identity: int) -> int:
        return int(self._offsets[identity + 1] - self._offsets[identity])

    def compare(self, a: int, b: int) -> _Comparison:
        distances = _cosine_distances(self._unit(a), self._unit(b))
        return _Comparison(
            np.concatenate([np.arange(self._offsets[i], self._offsets[i + 1]) for i in (a, b)]),
            np.concatenate([self._own_distances(a), self._own_distances(b)]),
            np.concatenate([np.median(distances, axis=1), np.median(distances, axis=0)]),
            float(np.median(distances)),
        )

    def _own_distances(self, identity: int) -> NDArray[np.float32]:
        if identity not in self._own:
            unit = self._unit(identity)
            others = ~np.eye(len(unit), dtype=bool)
            # [images, images − 1]
            distances = _cosine_distances(unit, unit)[others].reshape(len(unit), -1)
            self._own[identity] = np.median(distances, axis=1)
        return self._own[identity]

    def _unit(self, identity: int) -> NDArray[np.float32]:
        rows = self._embeddings[self._offsets[identity] : self._offsets[identity + 1]]
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
        return unit


def _cosine_distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return 1 - a @ b.T
