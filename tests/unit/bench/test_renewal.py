"""Simulated goodput, the exact formula and the first-order one against each other."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.renewal import Faults, best_interval, expected, simulate, young_daly, young_daly_waste

# In standard errors: beyond 6 lies one in 500 million of a normal distribution, which a mean of 20,000 samples is near.
DEVIATIONS = 6
SEGMENTS = 20_000


@given(
    interval=st.floats(0.02, 2.0),
    commit=st.floats(0.001, 0.5),
    recovery=st.floats(0.0, 0.5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_simulated_goodput_is_the_formulas_within_its_standard_error(
    interval: float, commit: float, recovery: float, seed: int
) -> None:
    faults = Faults(mtbf=1000.0, recovery=1000 * recovery, commit=1000 * commit)

    simulated = simulate(faults, 1000 * interval, segments=SEGMENTS, seed=seed)

    exact = expected(faults, 1000 * interval)
    assert abs(simulated.goodput - exact.goodput) <= DEVIATIONS * simulated.standard_error
    parts = simulated.goodput + simulated.commits + simulated.replay + simulated.recovery
    assert parts == pytest.approx(1.0, abs=1e-12)
    assert exact.goodput + exact.commits + exact.replay + exact.recovery == pytest.approx(1.0, abs=1e-12)
    # The same mean number of failures per segment, e^{L/M} − 1, whose spread is at most that of a geometric law.
    mean = math.expm1(interval + commit)
    spread = math.sqrt(mean * (1 + mean) / SEGMENTS)
    assert abs(simulated.failures / SEGMENTS - mean) <= DEVIATIONS * spread


@given(mtbf=st.floats(60, 1e6), cost=st.floats(1e-5, 0.2), recovery=st.floats(0, 0.2))
@settings(max_examples=100, deadline=None)
def test_no_interval_is_better_than_the_best_and_young_daly_is_near_it(
    mtbf: float, cost: float, recovery: float
) -> None:
    faults = Faults(mtbf=mtbf, recovery=recovery * mtbf, commit=cost * mtbf)
    best = best_interval(faults)
    top = expected(faults, best).goodput

    for factor in (0.5, 0.99, 1.01, 2.0):
        assert expected(faults, factor * best).goodput <= top + 1e-12
    # At its optimum goodput is flat, and √(2MC) is off by terms of the order of C only.
    assert top - expected(faults, young_daly(faults)).goodput <= cost


def test_first_order_waste_is_the_exact_one_where_failures_are_rare() -> None:
    faults = Faults(mtbf=1e6, recovery=10, commit=1)
    interval = young_daly(faults)

    # What is left out are squares of the parts.
    waste = young_daly_waste(faults, interval)
    assert 1 - expected(faults, interval).goodput == pytest.approx(waste, abs=2 * waste**2)


def test_without_failures_only_commits_are_lost() -> None:
    simulated = simulate(Faults(mtbf=1e15, recovery=10, commit=1), 9, segments=100, seed=0)

    assert (simulated.goodput, simulated.failures) == (pytest.approx(0.9), 0)


def test_one_seed_gives_one_schedule() -> None:
    faults = Faults(mtbf=100, recovery=10, commit=1)
    assert simulate(faults, 10, segments=1000, seed=5) == simulate(faults, 10, segments=1000, seed=5)
    assert simulate(faults, 10, segments=1000, seed=5) != simulate(faults, 10, segments=1000, seed=6)
