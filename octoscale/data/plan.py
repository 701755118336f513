"""Which samples meet in which batch: a pure function of (images per identity, batch size, seed, epoch)."""

import numpy as np
from numpy.typing import NDArray

from octoscale.errors import OctoscaleError

_MAX_BLOCK = 2**16


def epoch_plan(
    images_per_identity: NDArray[np.int64], *, global_batch_size: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Draw every global batch of one epoch.

    The rule of the paper (Knoche et al., FG 2023): the B/2 identities of a batch are drawn one
    after another without replacement, each with a probability proportional to its number of
    images not yet picked in this epoch (at least 2), as counted before the batch. Two of these
    images are picked, uniformly. The epoch ends when fewer than B/2 identities have two left.

    Args:
        images_per_identity: int64 [identities]; a sample id is a row of the index, sorted by identity.
        global_batch_size: B, images of one optimizer step over all ranks; even, at least 4.
        seed: the run's seed.
        epoch: from 0.

    Returns:
        int64 [batches, B], sample ids. Columns 2k and 2k + 1 are the two images of an identity;
        no identity is twice in a batch, no image twice in an epoch.

    Raises:
        OctoscaleError: an impossible batch size, or fewer than B/2 identities with two images.
    """
    counts = np.asarray(images_per_identity, np.int64)
    pairs = pairs_per_batch(counts, global_batch_size)
    rng = np.random.default_rng([seed & 0xFFFFFFFFFFFFFFFF, epoch])
    order = _shuffle_within_identities(counts, rng)
    next_image = np.cumsum(counts) - counts
    draw = _IdentityDraw(counts, rng)
    plan = np.empty((int(counts.sum()) // global_batch_size, global_batch_size), np.int64)
    batches = 0
    while draw.eligible_count >= pairs:
        identities = draw.batch(pairs)
        first = next_image[identities]
        next_image[identities] += 2
        plan[batches, 0::2] = order[first]
        plan[batches, 1::2] = order[first + 1]
        batches += 1
    return plan[:batches]


def rank_batch_size(global_batch_size: int, world_size: int) -> int:
    """The images of each rank in a global batch.

    Raises:
        OctoscaleError: the global batch does not divide into whole pairs on every rank.
    """
    if global_batch_size % (2 * world_size):
        raise OctoscaleError(
            f"global_batch_size {global_batch_size} does not divide into whole pairs on {world_size} ranks; "
            f"choose a multiple of {2 * world_size}"
        )
    return global_batch_size // world_size


def rank_rows(plan: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
    """The contiguous part of every global batch that belongs to `rank`.

    Args:
        plan: int64 [..., B].

    Returns:
        int64 [..., B / world_size], a view.

    Raises:
        OctoscaleError: B does not divide into whole pairs on every rank.
    """
    size = rank_batch_size(plan.shape[-1], world_size)
    return plan[..., rank * size : (rank + 1) * size]


def pairs_per_batch(images_per_identity: NDArray[np.int64], global_batch_size: int) -> int:
    """The identities of a global batch.

    Raises:
        OctoscaleError: an impossible batch size, or fewer than B/2 identities with two images.
    """
    if global_batch_size < 4 or global_batch_size % 2:
        raise OctoscaleError(
            f"global_batch_size {global_batch_size} must be even and at least 4: "
            "a batch holds two images each of two or more identities"
        )
    pairs = global_batch_size // 2
    eligible = int((images_per_identity >= 2).sum())
    if eligible < pairs:
        raise OctoscaleError(
            f"global_batch_size {global_batch_size} needs {pairs} identities with two images, the data set has "
            f"{eligible}; choose a batch size of at most {2 * eligible}, or add identities"
        )
    return pairs


def _shuffle_within_identities(counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """All sample ids sorted by identity, in uniformly random order within each."""
    keys = rng.integers(0, 2**64, int(counts.sum()), dtype=np.uint64)
    # The identity in the high bits, at least 32 random bits below.
    identity_bits = np.uint64(max(1, len(counts).bit_length()))
    keys >>= identity_bits
    keys |= np.repeat(np.arange(len(counts), dtype=np.uint64) << (np.uint64(64) - identity_bits), counts)
    return np.argsort(keys)


class _IdentityDraw:
    """Draws identities with probability proportional to their unpicked images, exactly and in blocks.

    An integer below the total of *stale* counts names an identity (by binary search in their
    cumulative sum) and one of its images. It is accepted if that image number is below the
    identity's present count, so identities are accepted in proportion to present counts.
    Repetitions in a batch are dropped, which is drawing without replacement. Where this
    rejects too much, the batch is finished with exponential keys instead.
    """

    def __init__(self, counts: NDArray[np.int64], rng: np.random.Generator) -> None:
        self._rng = rng
        self._counts = np.where(counts >= 2, counts, 0)
        self._seen_at = np.zeros(len(counts), np.int64)
        self.eligible_count = int((self._counts > 0).sum())
        self._rebuild()

    def batch(self, pairs: int) -> NDArray[np.int64]:
        """int64 [pairs], distinct identities in drawing order; their counts go down by 2."""
        if 2 * self._mass < self._stale_mass:
            self._rebuild()
        drawn = self._draw_by_rejection(pairs)
        if len(drawn) < pairs:
            drawn = np.concatenate([drawn, self._draw_by_keys(pairs - len(drawn), drawn)])
        before = self._counts[drawn]
        after = np.where(before >= 4, before - 2, 0)
        self._counts[drawn] = after
        self._mass -= int((before - after).sum())
        self.eligible_count -= int((after == 0).sum())
        return drawn

    def _rebuild(self) -> None:
        self._eligible = np.flatnonzero(self._counts)
        stale = self._counts[self._eligible]
        self._ends = np.cumsum(stale)
        self._starts = self._ends - stale
        self._mass = self._stale_mass = int(stale.sum())
        self._position = 0
        self._block = np.empty((0, 2), np.int64)

    def _draw_by_rejection(self, pairs: int) -> NDArray[np.int64]:
        """Up to `pairs` identities; fewer when most candidates were rejected."""
        drawn = np.empty(0, np.int64)
        while len(drawn) < pairs:
            missing = pairs - len(drawn)
            candidates, images = self._candidates(missing + missing // 4 + 8)
            accepted = np.flatnonzero(images < self._counts[candidates])
            merged = np.concatenate([drawn, candidates[accepted]])
            # Of repeated indices the last assignment wins: going backwards, the first occurrence.
            numbers = np.arange(len(merged))
            self._seen_at[merged[::-1]] = numbers[::-1]
            new = np.flatnonzero(self._seen_at[merged] == numbers)[len(drawn) : pairs]
            used = accepted[new[-1] - len(drawn)] + 1 if len(new) == missing else len(candidates)
            # What was not looked at is as good as fresh and starts the next batch.
            self._position += int(used)
            drawn = np.concatenate([drawn, merged[new]])
            if len(drawn) < pairs and 4 * len(new) < len(candidates):
                break
        return drawn

    def _candidates(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Identities [≤ count] in proportion to stale counts, and one of the stale images of each."""
        if self._position == len(self._block):
            size = max(count, min(_MAX_BLOCK, self._stale_mass))
            numbers = self._rng.integers(0, self._stale_mass, size)
            rows = np.searchsorted(self._ends, numbers, side="right")
            self._block = np.stack([self._eligible[rows], numbers - self._starts[rows]], axis=1)
            self._position = 0
        part = self._block[self._position : self._position + count]
        return part[:, 0], part[:, 1]

    def _draw_by_keys(self, missing: int, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
        """`missing` more identities by the smallest E/count, E ~ Exp(1) (Efraimidis & Spirakis 2006)."""
        weights = self._counts.copy()
        weights[drawn] = 0
        eligible = np.flatnonzero(weights)
        keys = self._rng.standard_exponential(len(eligible)) / weights[eligible]
        nearest = np.argpartition(keys, missing - 1)[:missing]
        return eligible[nearest[np.argsort(keys[nearest])]]
