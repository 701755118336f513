"""The pool's counts and its draws, while images come and go."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from octoscale.data.image_pool import ImagePool, order_of_picking

# One false alarm in 1,000 for each χ² test; seeds are fixed, so a pass stays a pass.
LEAST_P = 1e-3


def offsets_of(counts: list[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(0, 12), min_size=3, max_size=12),
    ages=st.integers(1, 8),
    pairs=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_its_counts_are_those_of_the_images_in_it(counts: list[int], ages: int, pairs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    offsets = offsets_of(counts)
    age = rng.integers(0, ages, sum(counts))
    identity = np.repeat(np.arange(len(counts)), counts)
    order = order_of_picking(offsets, rng, age) if sum(counts) else np.empty(0, np.int32)
    pool = ImagePool(order, offsets, rng)
    inside, left = np.zeros(len(counts), int), np.array(counts)

    for current in range(ages):
        pool.admit(np.flatnonzero(age[order] == current).astype(np.int32))
        inside += np.bincount(identity[age == current], minlength=len(counts))
        for _ in range(rng.integers(0, 4)):
            if pool.eligible_identities < pairs:
                break
            drawn = identity[pool.draw(pairs)][0::2]
            assert np.all(inside[drawn] >= 2)
            inside[drawn] -= 2
            left[drawn] -= 2
        assert pool.eligible_identities == (inside >= 2).sum()
        assert pool.images == inside[left >= 2].sum()


def test_images_are_picked_oldest_first_and_in_any_order_within_an_age() -> None:
    ages = np.array([1, 0, 1, 0, 2])

    orders = Counter(tuple(order_of_picking(offsets_of([5]), np.random.default_rng(seed), ages)) for seed in range(400))

    assert set(orders) == {(*old, *young, 4) for old in ((1, 3), (3, 1)) for young in ((0, 2), (2, 0))}
    assert stats.chisquare(list(orders.values())).pvalue > LEAST_P


def test_an_identity_that_waited_with_one_image_is_drawn_like_any_other() -> None:
    # Identity 0 is drawn down to one image, gets 3 more, then 2 more, so 6 of 16.
    counts, draws = [8, 5, 5], Counter[int]()
    offsets = offsets_of(counts)
    age = np.array([0, 0, 0, 1, 1, 1, 2, 2, *[3] * 10])

    for seed in range(4000):
        rng = np.random.default_rng(seed)
        pool = ImagePool(order_of_picking(offsets, rng, age), offsets, rng)
        pool.admit(np.arange(3))
        pool.draw(1)
        for positions in (np.arange(3, 6), np.arange(6, 8), np.arange(8, 18)):
            pool.admit(positions)
        draws[int(np.searchsorted(offsets, pool.draw(1)[0], side="right")) - 1] += 1

    assert stats.chisquare([draws[i] for i in range(3)], 4000 * np.array([6, 5, 5]) / 16).pvalue > LEAST_P
