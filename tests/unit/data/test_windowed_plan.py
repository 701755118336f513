"""The windowed plan against a slow replay of its rule and a naive sampler."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from octoscale.data.plan import rank_rows
from octoscale.data.windowed_plan import shard_order, windowed_plan
from octoscale.errors import OctoscaleError
from tests.unit.data.test_plan import identities_of, long_tailed_counts, naive_identities

# One false alarm in 1,000 for each χ² test; seeds are fixed, so a pass stays a pass.
LEAST_P = 1e-3


class SlowPool:
    """The specification of the window: admits shards, and knows which images may be picked."""

    def __init__(self, counts: list[int], shard_ids: NDArray[np.int32], order: NDArray[np.int64], window: float):
        self.identity = np.repeat(np.arange(len(counts)), counts)
        self.shard_ids, self.order, self.least = shard_ids, order, window * sum(counts)
        self.admitted = 0
        self.inside = np.zeros(sum(counts), bool)
        self.unpicked = np.ones(sum(counts), bool)
        # Shards of the first window are of one age.
        self.age = np.full(len(order), -1)

    def counts_of(self, images: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(self.identity[images], minlength=self.identity.max() + 1)

    @property
    def eligible(self) -> NDArray[np.int64]:
        """[identities], images in the pool where there are two or more, else 0."""
        counts = self.counts_of(self.inside)
        return np.where(counts >= 2, counts, 0)

    @property
    def usable_images(self) -> int:
        return int(self.counts_of(self.inside)[self.counts_of(self.unpicked) >= 2].sum())

    def admit(self, pairs: int) -> None:
        while self.admitted < len(self.order) and (
            self.usable_images < self.least or (self.eligible > 0).sum() < pairs
        ):
            first_window = np.isin(self.shard_ids, self.order[: self.admitted]).sum() < self.least
            shard = self.order[self.admitted]
            self.age[shard] = 0 if first_window else self.admitted
            self.inside |= self.shard_ids == shard
            self.admitted += 1

    def pick(self, images: NDArray[np.int64]) -> None:
        self.inside[images] = self.unpicked[images] = False


def striped_shards(counts: NDArray[np.int64] | list[int], images_per_shard: int) -> NDArray[np.int32]:
    """As `pack` lays images out: runs of eight of one identity, shuffled over the shards."""
    counts = np.asarray(counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    runs_of = np.maximum(1, counts // 8)
    run = np.minimum(within // 8, np.repeat(runs_of - 1, counts)) + np.repeat(np.cumsum(runs_of) - runs_of, counts)
    run_sizes = np.bincount(run)
    shuffled = np.random.default_rng(0).permutation(len(run_sizes))
    shard_of_run = np.empty(len(run_sizes), np.int32)
    shard_of_run[shuffled] = (np.cumsum(run_sizes[shuffled]) - run_sizes[shuffled]) // images_per_shard
    return shard_of_run[run]


def plan_of(
    counts: NDArray[np.int64] | list[int], shard_ids: NDArray[np.int32], batch_size: int, window: float, **numbers: int
) -> NDArray[np.int64]:
    offsets = np.concatenate([[0], np.cumsum(counts)])
    numbers = {"seed": 0, "epoch": 0} | numbers
    return windowed_plan(offsets, shard_ids, global_batch_size=batch_size, window_fraction=window, **numbers)


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(0, 20), min_size=2, max_size=25),
    shards=st.integers(1, 12),
    pairs=st.integers(2, 8),
    window=st.floats(0.02, 1),
    seed=st.integers(0, 2**32),
)
def test_every_plan_keeps_the_rules_of_the_window(
    counts: list[int], shards: int, pairs: int, window: float, seed: int
) -> None:
    pairs = min(pairs, sum(count >= 2 for count in counts))
    if pairs < 2:
        return
    shard_ids = np.random.default_rng(seed).integers(0, shards, sum(counts), dtype=np.int32)

    plan = plan_of(counts, shard_ids, 2 * pairs, window, seed=seed)

    assert plan.dtype == np.int64
    assert len(np.unique(plan)) == plan.size
    pool = SlowPool(counts, shard_ids, shard_order(int(shard_ids.max()) + 1, seed=seed, epoch=0), window)
    for batch in plan:
        pool.admit(pairs)
        identities = pool.identity[batch]
        assert np.array_equal(identities[0::2], identities[1::2])
        assert len(set(identities[0::2])) == pairs
        assert pool.inside[batch].all(), "an image was used before its shard was admitted"
        pool.pick(batch)
        for row, identity in zip(batch, identities, strict=True):
            ages = pool.age[shard_ids[pool.inside & (pool.identity == identity)]]
            assert (ages >= pool.age[shard_ids[row]]).all(), "an older image of the identity was passed over"
    pool.admit(pairs)
    assert pool.admitted == len(pool.order)
    assert (pool.eligible > 0).sum() < pairs, "the epoch ended although another batch was possible"


def naive_windowed(
    counts: list[int], shard_ids: NDArray[np.int32], pairs: int, window: float, rng: np.random.Generator
) -> list[frozenset[int]]:
    """The identities of every batch, drawn one after another from the slow pool."""
    pool = SlowPool(counts, shard_ids, rng.permutation(int(shard_ids.max()) + 1), window)
    batches = []
    while True:
        pool.admit(pairs)
        weights = pool.eligible.astype(float)
        if (weights > 0).sum() < pairs:
            return batches
        batch = []
        for _ in range(pairs):
            batch.append(int(rng.choice(len(weights), p=weights / weights.sum())))
            weights[batch[-1]] = 0
        batches.append(frozenset(batch))
        for identity in batch:
            rows = rng.permutation(np.flatnonzero(pool.inside & (pool.identity == identity)))
            pool.pick(rows[np.argsort(pool.age[shard_ids[rows]], kind="stable")[:2]])


@pytest.mark.parametrize("first", [0, 3])
def test_batches_are_distributed_like_the_naive_sampler(first: int) -> None:
    counts, epochs = [2, 3, 6, 9, 12], 1500
    shard_ids = np.random.default_rng(5).integers(0, 6, sum(counts), dtype=np.int32)
    rng = np.random.default_rng(0)

    naive = Counter(tuple(naive_windowed(counts, shard_ids, 2, 0.35, rng)[first : first + 2]) for _ in range(epochs))
    planned = Counter(
        tuple(
            frozenset(batch)
            for batch in identities_of(plan_of(counts, shard_ids, 4, 0.35, epoch=epoch), counts)[
                first : first + 2, 0::2
            ].tolist()
        )
        for epoch in range(epochs)
    )

    common = [key for key in naive | planned if naive[key] + planned[key] >= 20]
    table = np.array([[naive[key], planned[key]] for key in common])
    rest = [[epochs - table[:, 0].sum(), epochs - table[:, 1].sum()]]
    assert stats.chi2_contingency(np.concatenate([table, rest])).pvalue > LEAST_P


def test_a_window_of_everything_is_distributed_like_the_resident_plan() -> None:
    counts, epochs = [2, 3, 5, 8], 2000
    shard_ids = np.random.default_rng(0).integers(0, 5, sum(counts), dtype=np.int32)
    rng = np.random.default_rng(0)
    plans = [plan_of(counts, shard_ids, 4, 1.0, epoch=epoch) for epoch in range(epochs)]

    naive = Counter(tuple(map(frozenset, naive_identities(counts, 2, rng)[1:3])) for _ in range(epochs))
    planned = Counter(tuple(map(frozenset, identities_of(plan[1:3, 0::2], counts).tolist())) for plan in plans)
    images = Counter(
        tuple(pair) for plan in plans for pair in plan[0].reshape(2, 2).tolist() if pair[0] in range(5, 10)
    )

    table = np.array([[naive[key], planned[key]] for key in naive | planned])
    table = table[table.sum(axis=1) >= 20]
    assert stats.chi2_contingency(table).pvalue > LEAST_P
    assert set(images) == set(permutations(range(5, 10), 2))
    assert stats.chisquare(list(images.values())).pvalue > LEAST_P


def test_a_long_tailed_data_set_is_nearly_used_up() -> None:
    counts = long_tailed_counts(4000)

    plan = plan_of(counts, striped_shards(counts, 500), 64, 0.1)

    # The odd last image of half of the identities cannot be used: 0.7 % at 68 images per identity.
    assert plan.size >= 0.99 * counts.sum()


def test_the_pool_never_holds_more_than_the_window_and_a_shard() -> None:
    counts = long_tailed_counts(1000)
    shard_ids = striped_shards(counts, 500)
    order = shard_order(int(shard_ids.max()) + 1, seed=0, epoch=0)

    plan = plan_of(counts, shard_ids, 64, 0.1)

    rank_of_shard = np.argsort(order)
    most = 0.1 * counts.sum() + np.bincount(shard_ids).max()
    identities = identities_of(np.arange(counts.sum()), counts.tolist())
    used_at = np.full(counts.sum(), len(plan))
    used_at[plan] = np.arange(len(plan))[:, None]
    newest = np.maximum.accumulate(rank_of_shard[shard_ids[plan]].max(axis=1))
    for batch in range(0, len(plan), 20):
        # Of the shards that are known to be in by now, what later batches use.
        inside = (rank_of_shard[shard_ids] <= newest[batch]) & (used_at >= batch) & (used_at < len(plan))
        assert inside.sum() <= most
        assert len(np.unique(identities[inside])) > 300, "the window shows few identities"


def test_a_batch_of_every_identity_widens_the_window() -> None:
    counts = [8] * 50

    plan = plan_of(counts, striped_shards(counts, 16), 100, 0.1)

    assert plan.shape == (4, 100)


def test_the_same_seed_and_epoch_give_the_same_plan_and_others_another() -> None:
    counts = [10] * 50
    shard_ids = striped_shards(counts, 40)

    def plan(seed: int, epoch: int) -> NDArray[np.int64]:
        return plan_of(counts, shard_ids, 16, 0.2, seed=seed, epoch=epoch)

    assert np.array_equal(plan(1, 2), plan(1, 2))
    assert not np.array_equal(plan(1, 2)[0], plan(1, 3)[0])
    assert not np.array_equal(plan(1, 2)[0], plan(2, 2)[0])


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_a_resume_with_any_world_size_gets_the_remaining_batches(world_size: int) -> None:
    counts = [6] * 20
    shard_ids = striped_shards(counts, 24)
    plan = plan_of(counts, shard_ids, 16, 0.3)

    again = plan_of(counts, shard_ids, 16, 0.3)
    for batch in range(len(plan)):
        parts = [rank_rows(again[batch:], rank, world_size) for rank in range(world_size)]
        assert np.array_equal(np.concatenate(parts, axis=1), plan[batch:])


@pytest.mark.parametrize("window", [-0.1, 0, 1.01, float("nan")])
def test_an_impossible_window_is_refused(window: float) -> None:
    with pytest.raises(OctoscaleError, match=f"window_fraction {window} must be above 0"):
        plan_of([5, 5], np.zeros(10, np.int32), 4, window)


def test_too_few_identities_for_a_batch_say_what_is_possible() -> None:
    with pytest.raises(OctoscaleError, match=r"needs 4 identities with two images, the data set has 3; .* at most 6"):
        plan_of([5, 5, 2, 1, 0], np.zeros(13, np.int32), 8, 0.5)
