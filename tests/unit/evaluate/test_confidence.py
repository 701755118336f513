"""Bootstrap intervals against resamples drawn out pair by pair."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from octoscale.evaluate.confidence import confidence_intervals, resamples, roc_intervals, share_interval
from octoscale.evaluate.curves import area_under_curve, equal_error_rate, roc, tar_at_far
from octoscale.evaluate.verification import decisions


def overlapping(count: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distances with ties of `count` genuine and `count` impostor pairs, in turn."""
    generator = np.random.default_rng(seed)
    same = np.tile([True, False], count)
    return generator.normal(np.where(same, 0.6, 1.0), 0.2).round(2), same


def test_each_resample_has_as_many_pairs_of_each_kind() -> None:
    same = np.array([True] * 30 + [False] * 12)

    weights = resamples(same, 50)

    assert weights.shape == (50, 42)
    assert (weights[:, same].sum(1) == 30).all()
    assert (weights[:, ~same].sum(1) == 12).all()
    assert len(weights.unique(dim=0)) == 50
    assert torch.equal(weights, resamples(same, 50))


def test_figures_of_a_resample_are_those_of_its_pairs_written_out() -> None:
    distances, same = overlapping(100)
    right, fold = decisions(distances, same)
    weights = resamples(same, 1)

    found = confidence_intervals(distances, same, right, fold, (0.1, 0.01, 0.001), weights)

    drawn = np.repeat(np.arange(200), weights[0].numpy())
    curve = roc(distances[drawn], same[drawn])
    expected = {
        "accuracy": np.mean(right[drawn]),
        "equal_error_rate": equal_error_rate(curve),
        "area_under_curve": area_under_curve(curve),
        "tar_at_far_0.1": tar_at_far(distances[drawn], same[drawn], 0.1),
        "tar_at_far_0.01": tar_at_far(distances[drawn], same[drawn], 0.01),
    }
    assert found == {name: (pytest.approx(value), pytest.approx(value)) for name, value in expected.items()}


def test_an_interval_of_the_accuracy_is_that_of_a_proportion() -> None:
    distances, same = overlapping(3000)
    right, fold = decisions(distances, same)

    low, high = confidence_intervals(distances, same, right, fold, (0.1,), resamples(same, 1000))["accuracy"]

    # 1.96 standard errors on either side; of 1,000 resamples a quantile is within about a tenth of one.
    error = np.sqrt(right.mean() * (1 - right.mean()) / len(right))
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert low < right.mean() < high


def test_intervals_do_not_depend_on_the_blocks_they_are_computed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    distances, same = overlapping(50)
    right, fold = decisions(distances, same)
    weights = resamples(same, 30)
    whole = confidence_intervals(distances, same, right, fold, (0.1,), weights)

    monkeypatch.setattr("octoscale.evaluate.confidence._BLOCK", 700)

    found = confidence_intervals(distances, same, right, fold, (0.1,), weights)
    assert found == {name: pytest.approx(interval, rel=1e-12) for name, interval in whole.items()}


class AsItIs:
    """Draws every pair once."""

    def multinomial(self, of: int, shares: NDArray[np.float64], size: int) -> NDArray[np.int64]:
        return np.tile((of * shares).round().astype(np.int64), (size, 1))


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60))
def test_a_roc_of_counts_is_that_of_the_pairs(drawn: list[tuple[int, bool]]) -> None:
    drawn += [(3, True), (4, False)]
    distances, same = np.array([d for d, _ in drawn], float), np.array([genuine for _, genuine in drawn])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", lambda seed: AsItIs())
        found = roc_intervals(distances, same, (0.5, 0.1, 0.01), 3)

    curve = roc(distances, same)
    expected = {"equal_error_rate": equal_error_rate(curve), "area_under_curve": area_under_curve(curve)}
    tars = {f"tar_at_far_{far:g}": tar_at_far(distances, same, far) for far in (0.5, 0.1, 0.01)}
    expected |= {name: tar for name, tar in tars.items() if tar is not None}
    assert found == {name: (pytest.approx(value), pytest.approx(value)) for name, value in expected.items()}


def test_intervals_of_counts_are_those_of_drawn_pairs() -> None:
    distances, same = overlapping(1000)
    far = (0.1, 0.01)
    drawn = confidence_intervals(distances, same, *decisions(distances, same), far, resamples(same, 4000))

    found = roc_intervals(distances, same, far, 4000)

    del drawn["accuracy"]
    assert found.keys() == drawn.keys()
    for name, (low, high) in drawn.items():
        assert found[name] == pytest.approx((low, high), abs=0.1 * (high - low)), name
    assert found == roc_intervals(distances, same, far, 4000)
    assert roc_intervals(distances, same, far, 0) == {}


def test_a_genuine_pair_at_no_distance_is_never_accepted() -> None:
    distances, same = overlapping(100)
    rejected = distances.copy()
    rejected[same] = np.inf

    assert roc_intervals(rejected, same, (0.1,), 50)["tar_at_far_0.1"] == (0.0, 0.0)


def test_an_interval_of_a_share_is_that_of_its_cases_drawn_anew() -> None:
    generator = np.random.default_rng(5)
    cases = np.arange(400) < 300
    expected: Any = np.quantile([generator.choice(cases, 400).mean() for _ in range(4000)], (0.025, 0.975))

    assert share_interval(0.75, 400, 4000) == pytest.approx(tuple(expected), abs=0.006)
    assert share_interval(1.0, 400, 100) == (1.0, 1.0)
