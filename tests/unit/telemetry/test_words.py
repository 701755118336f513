"""Figures in words."""

import math

import pytest

from octoscale.telemetry.words import duration, rate, share, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (750, "12:30"), (11110, "3:05:10"), (183910, "2 d 03:05:10"),
     (None, "?"), (math.inf, "?")],
)  # fmt: skip
def test_a_duration_in_the_largest_units_that_it_has(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0, "0%"), (0.0123, "1.2%"), (0.099, "9.9%"), (0.0996, "10%"), (0.455, "46%"), (1, "100%"), (math.nan, "?")],
)
def test_a_share_has_a_decimal_where_it_is_small(ratio: float, text: str) -> None:
    assert share(ratio) == text


@pytest.mark.parametrize(("value", "text"), [(0.123, "0.12"), (9.96, "10.0"), (12.34, "12.3"), (1234.5, "1,234")])
def test_a_rate_has_three_digits(value: float, text: str) -> None:
    assert rate(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1200, "1.2 kB"), (99_600, "100 kB"), (3.4e9, "3.4 GB"), (5e15, "5000 TB")],
)
def test_bytes_are_told_in_units_of_a_thousand(count: float, text: str) -> None:
    assert size(count) == text
