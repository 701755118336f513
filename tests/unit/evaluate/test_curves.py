"""ROC and what is read off it, against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from octoscale.errors import OctoscaleError
from octoscale.evaluate.curves import (
    area_under_curve,
    equal_error_rate,
    fewest_impostors,
    roc,
    tar_at_far,
    tar_of_curve,
    thinned,
)

_PAIRS = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({same for _, same in pairs}) == 2
)


def overlapping(count: int = 400, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distances with ties (two decimals) of `count` genuine and `count` impostor pairs."""
    generator = np.random.default_rng(seed)
    same = np.repeat([True, False], count)
    return generator.normal(np.where(same, 0.6, 1.0), 0.2).round(2), same


@given(_PAIRS)
def test_the_roc_is_that_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    distances, same = np.array([d for d, _ in pairs], float), np.array([s for _, s in pairs])
    false_accepts, true_accepts, thresholds = roc_curve(same, -distances, drop_intermediate=False)

    curve = roc(distances, same)

    np.testing.assert_allclose(curve.false_accept_rate, false_accepts)
    np.testing.assert_allclose(curve.true_accept_rate, true_accepts)
    np.testing.assert_allclose(curve.threshold, -thresholds)


@given(_PAIRS)
def test_the_area_is_that_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    distances, same = np.array([d for d, _ in pairs], float), np.array([s for _, s in pairs])

    assert area_under_curve(roc(distances, same)) == pytest.approx(roc_auc_score(same, -distances))


def test_the_equal_error_rate_is_where_the_curve_of_scikit_learn_crosses_the_falling_diagonal() -> None:
    distances, same = overlapping()
    false_accepts, true_accepts, _ = roc_curve(same, -distances, drop_intermediate=False)
    # The curve at ten million places, on the polyline parametrised by its own length.
    length = np.concatenate([[0], np.cumsum(np.diff(false_accepts) + np.diff(true_accepts))])
    places = np.linspace(0, 2, 1_000_001)
    false_here, true_here = np.interp(places, length, false_accepts), np.interp(places, length, true_accepts)
    expected = false_here[np.argmin(np.abs(false_here - (1 - true_here)))]

    # Two places are 2e-6 apart.
    assert equal_error_rate(roc(distances, same)) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("distances", "expected"),
    [([0.1, 0.2, 0.8, 0.9], 0.0), ([0.8, 0.9, 0.1, 0.2], 1.0), ([0.5, 0.5, 0.5, 0.5], 0.5)],
    ids=["perfect", "reversed", "blind"],
)
def test_the_equal_error_rate_of_plain_cases(distances: list[float], expected: float) -> None:
    assert equal_error_rate(roc(distances, [True, True, False, False])) == pytest.approx(expected)


@given(_PAIRS, st.sampled_from([0.5, 0.25, 0.1]))
def test_the_tar_is_the_largest_whose_far_is_within_the_limit(pairs: list[tuple[int, bool]], far: float) -> None:
    genuine, impostors = [d for d, s in pairs if s], [d for d, s in pairs if not s]
    allowed = [-1.0] + [t for t in range(10) if sum(d <= t for d in impostors) <= far * len(impostors)]
    expected = max(sum(d <= t for d in genuine) / len(genuine) for t in allowed)

    found = tar_at_far([d for d, _ in pairs], [s for _, s in pairs], far)

    assert found == (None if len(impostors) < 1 / far else pytest.approx(expected))


def test_a_tar_that_too_few_impostors_could_support_is_none() -> None:
    distances, same = overlapping(count=999)

    assert tar_at_far(distances, same, 1e-3) is None
    assert tar_at_far(*overlapping(count=1000), 1e-3) is not None
    assert fewest_impostors(1e-3) == 1000


def test_the_thinned_curve_has_the_largest_tar_of_each_of_its_fars() -> None:
    distances, same = overlapping(count=4000)
    curve = roc(distances, same)

    points = thinned(curve)

    assert len(points) <= 101
    assert points[0][0] == 0
    assert points[-1] == (1.0, 1.0)
    for far, tar in points:
        assert tar == curve.true_accept_rate[curve.false_accept_rate <= far].max()


@given(_PAIRS, st.sampled_from([1.0, 0.5, 0.25, 0.1]))
def test_what_is_read_off_a_curve_is_the_tar_at_that_far(pairs: list[tuple[int, bool]], far: float) -> None:
    distances, same = [d for d, _ in pairs], [s for _, s in pairs]
    expected = tar_at_far(distances, same, far)

    (found,) = tar_of_curve(thinned(roc(distances, same)), [far])

    assert expected is None or found == pytest.approx(expected)


def test_distances_that_are_not_finite_are_refused() -> None:
    with pytest.raises(OctoscaleError, match=r"2 of 4 distances are not finite.*learning rate"):
        roc([0.1, np.nan, np.inf, 0.2], [True, True, False, False])


def test_one_kind_of_pair_alone_is_refused() -> None:
    with pytest.raises(OctoscaleError, match="2 genuine and 0 impostor pairs"):
        roc([0.1, 0.2], [True, True])


def test_vectors_of_different_lengths_are_refused() -> None:
    with pytest.raises(OctoscaleError, match=r"distances \(3,\) and same \(2,\)"):
        roc([0.1, 0.2, 0.3], [True, False])
