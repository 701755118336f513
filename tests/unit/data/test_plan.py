"""The plan against a naive sequential sampler, and what holds for every plan."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from octoscale.data.plan import epoch_plan, rank_rows
from octoscale.errors import OctoscaleError

# One false alarm in 1,000 for each χ² test; seeds are fixed, so a pass stays a pass.
LEAST_P = 1e-3


def naive_identities(counts: list[int], pairs: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """The specification: one identity after another, weights by unpicked images, counts updated per batch."""
    left = np.array(counts)
    batches = []
    while (left >= 2).sum() >= pairs:
        weights = np.where(left >= 2, left, 0).astype(float)
        batch = []
        for _ in range(pairs):
            identity = int(rng.choice(len(left), p=weights / weights.sum()))
            batch.append(identity)
            weights[identity] = 0
        left[batch] -= 2
        batches.append(tuple(batch))
    return batches


def identities_of(plan: NDArray[np.int64], counts: list[int]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)), counts)[plan]


def long_tailed_counts(identities: int) -> NDArray[np.int64]:
    """As in MS1MV2 about 68 images per identity in the mean; a long tail, from 2 to 602."""
    counts = np.random.default_rng(0).lognormal(np.log(68) - 0.7**2 / 2, 0.7, identities)
    return np.clip(counts, 2, 602).astype(np.int64)


def exact_probabilities(counts: list[int], pairs: int) -> dict[tuple[int, ...], float]:
    """The probability of every ordered first batch."""
    probabilities = {}
    for order in permutations(range(len(counts)), pairs):
        probability, total = 1.0, float(sum(counts))
        for identity in order:
            probability *= counts[identity] / total
            total -= counts[identity]
        probabilities[order] = probability
    return probabilities


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(0, 30), min_size=2, max_size=40),
    pairs=st.integers(2, 12),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 100),
)
def test_every_plan_keeps_the_rules(counts: list[int], pairs: int, seed: int, epoch: int) -> None:
    eligible = sum(count >= 2 for count in counts)
    if eligible < pairs:
        pairs = eligible
    if pairs < 2:
        return

    plan = epoch_plan(np.array(counts), global_batch_size=2 * pairs, seed=seed, epoch=epoch)

    identities = identities_of(plan, counts)
    assert plan.dtype == np.int64
    assert np.array_equal(identities[:, 0::2], identities[:, 1::2])
    assert all(len(set(batch[0::2])) == pairs for batch in identities.tolist())
    assert len(np.unique(plan)) == plan.size
    left = np.array(counts) - np.bincount(identities.ravel(), minlength=len(counts))
    assert (left >= 2).sum() < pairs, "the epoch ended although another batch was possible"


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param([3, 4, 5, 6, 7], id="drawn by rejection"),
        pytest.param([900, 2, 3, 4, 5], id="one identity holds nearly all images"),
    ],
)
def test_the_first_batch_has_the_probabilities_of_drawing_one_after_another(counts: list[int]) -> None:
    pairs, epochs = 3, 5000

    drawn = Counter(
        tuple(identities_of(epoch_plan(np.array(counts), global_batch_size=6, seed=1, epoch=e)[0, 0::2], counts))
        for e in range(epochs)
    )

    expected = {order: epochs * p for order, p in exact_probabilities(counts, pairs).items()}
    # χ² needs about five expected draws per cell: rarer orders share one.
    cells = [(drawn[order], count) for order, count in expected.items() if count >= 5]
    rest = (epochs - sum(seen for seen, _ in cells), epochs - sum(count for _, count in cells))
    cells += [rest] if rest[1] > 0.5 else []
    seen, counted = zip(*cells, strict=True)
    assert stats.chisquare(seen, counted).pvalue > LEAST_P


def test_whole_epochs_are_distributed_like_the_naive_sampler() -> None:
    counts, epochs = [2, 3, 5, 8, 12], 3000
    rng = np.random.default_rng(0)

    naive = Counter(tuple(map(frozenset, naive_identities(counts, 2, rng)[1:4])) for _ in range(epochs))
    planned = Counter(
        tuple(
            frozenset(batch)
            for batch in identities_of(
                epoch_plan(np.array(counts), global_batch_size=4, seed=2, epoch=e)[1:4, 0::2], counts
            ).tolist()
        )
        for e in range(epochs)
    )

    common = [key for key in naive | planned if naive[key] + planned[key] >= 20]
    table = np.array([[naive[key], planned[key]] for key in common])
    rest = [[epochs - table[:, 0].sum(), epochs - table[:, 1].sum()]]
    assert stats.chi2_contingency(np.concatenate([table, rest])).pvalue > LEAST_P


def test_epochs_have_as_many_batches_as_with_the_naive_sampler() -> None:
    counts, epochs = [2, 2, 3, 3, 4, 6, 9, 14], 2000
    rng = np.random.default_rng(0)

    naive = Counter(len(naive_identities(counts, 3, rng)) for _ in range(epochs))
    planned = Counter(len(epoch_plan(np.array(counts), global_batch_size=6, seed=3, epoch=e)) for e in range(epochs))

    lengths = sorted(naive | planned)
    table = np.array([[naive[length], planned[length]] for length in lengths])
    table = table[table.sum(axis=1) >= 10]
    assert stats.chi2_contingency(table).pvalue > LEAST_P


def test_the_two_images_of_an_identity_are_any_two_in_any_order() -> None:
    epochs = 3000

    drawn = Counter(
        tuple(np.sort(epoch_plan(np.array([4, 4]), global_batch_size=4, seed=4, epoch=e)[0].reshape(2, 2), axis=0)[0])
        for e in range(epochs)
    )

    assert set(drawn) == set(permutations(range(4), 2))
    assert stats.chisquare(list(drawn.values())).pvalue > LEAST_P


def test_every_identity_in_one_batch_is_possible() -> None:
    counts = np.arange(2, 502)

    plan = epoch_plan(counts, global_batch_size=1000, seed=0, epoch=0)

    assert plan.shape == (1, 1000)


def test_a_long_tailed_data_set_is_nearly_used_up() -> None:
    counts = long_tailed_counts(4000)

    plan = epoch_plan(counts, global_batch_size=64, seed=0, epoch=0)

    # The odd last image of half of the identities cannot be used: 0.7 % at 68 images per identity.
    assert plan.size >= 0.99 * counts.sum()


def test_the_same_seed_and_epoch_give_the_same_plan_and_others_another() -> None:
    counts = np.full(50, 10)

    def plan(seed: int, epoch: int) -> NDArray[np.int64]:
        return epoch_plan(counts, global_batch_size=16, seed=seed, epoch=epoch)

    assert np.array_equal(plan(1, 2), plan(1, 2))
    assert not np.array_equal(plan(1, 2)[0], plan(1, 3)[0])
    assert not np.array_equal(plan(1, 2)[0], plan(2, 2)[0])
    assert not np.array_equal(plan(1, 2)[0], plan(2, 1)[0])


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_the_ranks_parts_make_up_the_global_batch(world_size: int) -> None:
    plan = epoch_plan(np.full(20, 6), global_batch_size=16, seed=0, epoch=0)

    parts = [rank_rows(plan, rank, world_size) for rank in range(world_size)]

    assert np.array_equal(np.concatenate(parts, axis=1), plan)


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_a_resume_with_any_world_size_gets_the_remaining_batches(world_size: int) -> None:
    plan = epoch_plan(np.full(20, 6), global_batch_size=16, seed=0, epoch=0)

    again = epoch_plan(np.full(20, 6), global_batch_size=16, seed=0, epoch=0)
    for batch in range(len(plan)):
        parts = [rank_rows(again[batch:], rank, world_size) for rank in range(world_size)]
        assert np.array_equal(np.concatenate(parts, axis=1), plan[batch:])


@pytest.mark.parametrize("batch_size", [-2, 0, 2, 7])
def test_an_impossible_batch_size_is_refused(batch_size: int) -> None:
    with pytest.raises(OctoscaleError, match=f"global_batch_size {batch_size} must be even and at least 4"):
        epoch_plan(np.full(20, 6), global_batch_size=batch_size, seed=0, epoch=0)


def test_too_few_identities_for_a_batch_say_what_is_possible() -> None:
    with pytest.raises(OctoscaleError, match=r"needs 4 identities with two images, the data set has 3; .* at most 6"):
        epoch_plan(np.array([5, 5, 2, 1, 0]), global_batch_size=8, seed=0, epoch=0)


def test_a_batch_that_splits_a_pair_over_two_ranks_is_refused() -> None:
    with pytest.raises(OctoscaleError, match=r"global_batch_size 12 .* 4 ranks; choose a multiple of 8"):
        rank_rows(np.zeros((1, 12), np.int64), 0, 4)
