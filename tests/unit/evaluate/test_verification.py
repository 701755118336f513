"""Ten-fold accuracy against a slow, obvious oracle."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from octoscale.errors import OctoscaleError
from octoscale.evaluate.verification import accuracy_10fold, best_threshold, cosine_distances, decisions


def slow_accuracies(distances: list[float], same: list[bool], folds: int) -> list[float]:
    """The specification: try every threshold on the other folds, keep the lowest of the best."""
    accuracies = []
    for rest, held_out in KFold(folds, shuffle=False).split(distances):
        ordered = sorted({distances[pair] for pair in rest})
        thresholds = [-math.inf, *((left + right) / 2 for left, right in pairwise(ordered)), math.inf]
        best, best_right = math.nan, -1
        for threshold in thresholds:
            right = sum((distances[pair] <= threshold) == same[pair] for pair in rest)
            if right > best_right:
                best, best_right = threshold, right
        accuracies.append(sum((distances[pair] <= best) == same[pair] for pair in held_out) / len(held_out))
    return accuracies


@given(
    pairs=st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=10, max_size=60).filter(
        lambda pairs: len({same for _, same in pairs}) == 2
    ),
    folds=st.integers(2, 10),
)
def test_accuracy_is_that_of_the_oracle_with_ties_and_uneven_folds(pairs: list[tuple[int, bool]], folds: int) -> None:
    distances, same = [distance / 7 for distance, _ in pairs], [same for _, same in pairs]
    expected = slow_accuracies(distances, same, folds)

    found = accuracy_10fold(distances, same, folds)

    assert found.mean == pytest.approx(np.mean(expected), abs=1e-12)
    assert found.std == pytest.approx(np.std(expected), abs=1e-12)


def test_accuracy_is_that_of_the_oracle_on_overlapping_normal_distances() -> None:
    generator = np.random.default_rng(3)
    same = np.tile(np.repeat([True, False], 30), 10)
    distances = generator.normal(np.where(same, 0.6, 1.0), 0.25)

    assert accuracy_10fold(distances, same).mean == pytest.approx(
        np.mean(slow_accuracies(distances.tolist(), same.tolist(), 10)), abs=1e-12
    )


def test_folds_follow_the_order_of_the_pairs() -> None:
    # In the first fold all impostors are nearer than all genuine pairs; elsewhere it is the other way round.
    same = [True, False] * 10
    distances = [0.9, 0.1] + [0.1, 0.9] * 9

    assert accuracy_10fold(distances, same).mean == pytest.approx(0.9)


def test_of_equally_good_thresholds_the_strictest_is_taken() -> None:
    distances, same = np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, False, True, False])

    # Accepting up to 0.1 is right three times, and so is accepting up to 0.3.
    assert best_threshold(distances, same) == pytest.approx(0.15)


def test_a_threshold_may_accept_nobody_or_everybody() -> None:
    distances = np.array([0.1, 0.2, 0.3])

    assert best_threshold(distances, np.array([False, False, True])) == -math.inf
    assert best_threshold(distances, np.array([False, True, True])) == math.inf


def test_tensors_are_taken_as_they_are() -> None:
    distances, same = torch.tensor([0.1, 0.9] * 5), torch.tensor([True, False] * 5)

    assert accuracy_10fold(distances, same) == (1.0, 0.0)


@pytest.mark.parametrize("folds", [0, 1, 5])
def test_a_number_of_folds_that_the_pairs_do_not_fill_is_refused(folds: int) -> None:
    with pytest.raises(OctoscaleError, match=rf"{folds} folds of 4 pairs: use 2…4"):
        accuracy_10fold([0.1, 0.2, 0.3, 0.4], [True, False, True, False], folds)


def test_cosine_distance_ignores_length_and_takes_zero_for_orthogonal() -> None:
    first = torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    second = torch.tensor([[5.0, 0.0], [0.0, 7.0], [-1.0, 0.0], [1.0, 0.0]])

    assert cosine_distances(first, second).tolist() == [0.0, 1.0, 2.0, 1.0]


def test_folds_may_be_given_pair_by_pair() -> None:
    generator = np.random.default_rng(4)
    same = generator.random(300) < 0.5
    distances = generator.normal(np.where(same, 0.6, 1.0), 0.25)
    fold = generator.integers(0, 7, 300)
    expected = []
    for number in range(7):
        best = best_threshold(distances[fold != number], same[fold != number])
        expected.append(np.mean((distances[fold == number] <= best) == same[fold == number]))

    found = accuracy_10fold(distances, same, fold)

    assert found == (pytest.approx(np.mean(expected)), pytest.approx(np.std(expected)))


def test_decisions_are_the_right_ones_of_each_pair() -> None:
    right, fold = decisions([0.1, 0.9, 0.1, 0.9, 0.9, 0.9], [True, False] * 3, 3)

    assert right.tolist() == [True, True, True, True, False, True]
    assert fold.tolist() == [0, 0, 1, 1, 2, 2]
