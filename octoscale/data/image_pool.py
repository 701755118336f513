"""The images that may be picked next, and the draw of a batch from them: the rule of every plan."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A row of the data set, or of an order of it; int32 wherever that is enough.
Rows = NDArray[np.signedinteger[Any]]

_MAX_BLOCK = 2**16


def rows_dtype(images: int) -> type[np.signedinteger[Any]]:
    """int32 for data sets whose rows fit, as nearly all do; else int64."""
    return np.int32 if images < 2**31 else np.int64


def order_of_picking(
    identity_offsets: NDArray[np.int64], rng: np.random.Generator, ages: NDArray[np.signedinteger[Any]] | None = None
) -> Rows:
    """The order in which each identity's images are picked: by age, and in uniformly random order within an age.

    Args:
        identity_offsets: int64 [identities + 1], first row of each identity.
        ages: [n], of every image, from 0 (admitted first); None: all are alike.

    Returns:
        [n], all rows, still sorted by identity.
    """
    images, identities = int(identity_offsets[-1]), len(identity_offsets) - 1
    # Identity, age, random: one unsigned 64-bit key from high to low bits. At 2 M identities and 16 k ages 29 bits are
    # random, and they only have to tell the images of one identity and age apart.
    identity_bits = max(1, identities.bit_length())
    age_bits = 0 if ages is None else int(ages.max()).bit_length()
    keys = rng.integers(0, 2**64, images, dtype=np.uint64)
    keys >>= np.uint64(identity_bits + age_bits)
    if ages is not None:
        keys |= ages.astype(np.uint64) << np.uint64(64 - identity_bits - age_bits)
    numbers = np.arange(identities, dtype=np.uint64) << np.uint64(64 - identity_bits)
    keys |= np.repeat(numbers, np.diff(identity_offsets))
    return np.argsort(keys).astype(rows_dtype(images))


class ImagePool:
    """The admitted, unpicked images of every identity, and pairs drawn from them.

    A *position* is a place in `order`, which is sorted by identity; each identity's admitted images
    are picked from the front, two at a time. A *ticket* is the position of an image of an identity
    that is eligible, i.e. has at least two images in the pool, so that a ticket drawn uniformly is an
    identity in proportion to its images. Tickets of picked images are left in place and rejected when
    they are drawn, until half of all are stale and are cleared out. Repetitions in a batch are dropped,
    which is drawing without replacement. Where this rejects too much, the batch is finished with
    exponential keys instead.

    Attributes:
        eligible_identities: how many can be drawn.
        images: unpicked images that are or may become one of a pair. The last image of an
            identity that was admitted whole is none of them.
    """

    def __init__(self, order: Rows, identity_offsets: NDArray[np.int64], rng: np.random.Generator) -> None:
        dtype = order.dtype
        self._rng = rng
        self._order = order
        starts = identity_offsets[:-1].astype(dtype)
        self._whole = identity_offsets[1:].astype(dtype)
        self._identity_of = np.repeat(np.arange(len(starts), dtype=dtype), np.diff(identity_offsets))
        # The images of identity i in the pool are at the positions next[i] up to end[i].
        self._next = starts
        self._end = starts.copy()
        # The first position with a valid ticket: next[i], or beyond it where a single image waits for a second.
        self._valid_from = starts.copy()
        self._tickets = np.empty(0, dtype)
        self._ticket_count = 0
        self._clear_block()
        self._seen_at = np.zeros(len(starts), np.int64)
        self._valid_tickets = 0
        self._waiting = 0
        self.eligible_identities = 0

    @property
    def images(self) -> int:
        return self._valid_tickets + self._waiting

    def admit(self, positions: Rows) -> None:
        """Put images into the pool: ascending positions, for each identity those after its last admitted one."""
        if not len(positions):
            return
        identities = self._identity_of[positions]
        first = np.flatnonzero(np.diff(identities, prepend=-1))
        identities = identities[first]
        before = self._end[identities] - self._next[identities]
        after = before + np.diff(first, append=len(positions)).astype(before.dtype)
        self._end[identities] += after - before
        single = after == 1
        self._valid_from[identities[single]] += 1
        self._add_tickets(positions)
        # An image that waited has no ticket any more: the one after it gets two.
        self._add_tickets(positions[first[before == 1]])
        self._valid_tickets += int(after[~single].sum() - before[before >= 2].sum())
        self._waiting += self._count_waiting(identities[single]) - int((before == 1).sum())
        self.eligible_identities += int(((before < 2) & ~single).sum())

    def draw(self, pairs: int) -> Rows:
        """[2 · pairs] rows, the two images of an identity side by side; at least `pairs` identities must be eligible.

        The identities are distinct and drawn one after another, each in proportion to its images in the pool
        before this batch.
        """
        if self._ticket_count > 2 * self._valid_tickets:
            self._clear_stale_tickets()
        drawn = self._draw_by_tickets(pairs)
        if len(drawn) < pairs:
            drawn = np.concatenate([drawn, self._draw_by_keys(pairs - len(drawn), drawn)])
        first = self._next[drawn]
        rows = np.empty(2 * pairs, self._order.dtype)
        rows[0::2] = self._order[first]
        rows[1::2] = self._order[first + 1]

        left = self._end[drawn] - first - 2
        single = left == 1
        self._next[drawn] = first + 2
        self._valid_from[drawn] = first + 2 + single
        singles = int(single.sum())
        self._valid_tickets -= 2 * pairs + singles
        self._waiting += self._count_waiting(drawn[single])
        self.eligible_identities -= singles + int((left == 0).sum())
        return rows

    def _count_waiting(self, single: Rows) -> int:
        """How many of these identities, each with one image in the pool, have images to come."""
        return int((self._end[single] < self._whole[single]).sum())

    def _clear_block(self) -> None:
        self._block = self._block_identities = np.empty(0, self._order.dtype)
        self._block_used = 0

    def _add_tickets(self, positions: Rows) -> None:
        needed = self._ticket_count + len(positions)
        if needed > len(self._tickets):
            grown = np.empty(max(needed, 2 * self._ticket_count), self._order.dtype)
            grown[: self._ticket_count] = self._tickets[: self._ticket_count]
            self._tickets = grown
        self._tickets[self._ticket_count : needed] = positions
        self._ticket_count = needed
        self._clear_block()

    def _clear_stale_tickets(self) -> None:
        tickets = self._tickets[: self._ticket_count]
        valid = tickets[tickets >= self._valid_from[self._identity_of[tickets]]]
        assert len(valid) == self._valid_tickets
        self._tickets, self._ticket_count = valid, len(valid)
        self._clear_block()

    def _draw_by_tickets(self, pairs: int) -> Rows:
        """Up to `pairs` identities; fewer when most tickets were rejected."""
        drawn = np.empty(0, self._order.dtype)
        while len(drawn) < pairs:
            missing = pairs - len(drawn)
            tickets, candidates = self._candidates(missing + missing // 4 + 8)
            accepted = np.flatnonzero(tickets >= self._valid_from[candidates])
            merged = np.concatenate([drawn, candidates[accepted]])
            # Of repeated indices the last assignment wins: going backwards, the first occurrence.
            numbers = np.arange(len(merged))
            self._seen_at[merged[::-1]] = numbers[::-1]
            new = np.flatnonzero(self._seen_at[merged] == numbers)[len(drawn) : pairs]
            used = accepted[new[-1] - len(drawn)] + 1 if len(new) == missing else len(candidates)
            # What was not looked at is as good as fresh and starts the next batch.
            self._block_used += int(used)
            drawn = np.concatenate([drawn, merged[new]])
            if len(drawn) < pairs and 4 * len(new) < len(candidates):
                break
        return drawn

    def _candidates(self, count: int) -> tuple[Rows, Rows]:
        """Up to `count` tickets, valid or stale, and their identities."""
        if self._block_used == len(self._block):
            size = max(count, min(_MAX_BLOCK, 8 * count))
            self._block = self._tickets[self._rng.integers(0, self._ticket_count, size)]
            self._block_identities = self._identity_of[self._block]
            self._block_used = 0
        part = slice(self._block_used, self._block_used + count)
        return self._block[part], self._block_identities[part]

    def _draw_by_keys(self, missing: int, drawn: Rows) -> Rows:
        """`missing` more identities by the smallest E/images, E ~ Exp(1) (Efraimidis & Spirakis 2006)."""
        weights = self._end - self._next
        weights[drawn] = 0
        eligible = np.flatnonzero(weights >= 2).astype(self._order.dtype)
        keys = self._rng.standard_exponential(len(eligible)) / weights[eligible]
        nearest = np.argpartition(keys, missing - 1)[:missing]
        return eligible[nearest[np.argsort(keys[nearest])]]
