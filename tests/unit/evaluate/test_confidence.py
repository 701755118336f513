"""Bootstrap intervals against resamples drawn out pair by pair."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from octoscale.evaluate.confidence import confidence_intervals, resamples
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
