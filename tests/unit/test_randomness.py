"""Counter-based randomness: uniform, independent of company, and a function of each of its inputs."""

import numpy as np

from octoscale.randomness import uniform

IDS = np.arange(100_000, dtype=np.int64)


def test_a_number_depends_on_its_own_sample_alone() -> None:
    together = uniform("flip", 1, 2, IDS)
    assert np.array_equal(together[[5, 3]], uniform("flip", 1, 2, np.array([5, 3])))


def test_numbers_are_uniform_on_the_unit_interval() -> None:
    numbers = uniform("flip", 0, 0, IDS)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    # χ² with 19 degrees of freedom: 43.8 has p = 0.001.
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8


def test_stream_seed_and_epoch_each_give_unrelated_numbers() -> None:
    base = uniform("flip", 0, 0, IDS)
    for other in (uniform("brightness", 0, 0, IDS), uniform("flip", 1, 0, IDS), uniform("flip", 0, 1, IDS)):
        # 5 standard errors of the correlation of 100,000 independent pairs.
        assert abs(np.corrcoef(base, other)[0, 1]) < 5 / np.sqrt(len(IDS))


def test_neighbouring_samples_are_unrelated() -> None:
    numbers = uniform("flip", 0, 0, IDS)
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 5 / np.sqrt(len(IDS))


def test_the_numbers_never_change_between_versions() -> None:
    # Written down once: a run resumed by a later version must draw the same.
    assert uniform("flip", 7, 3, np.array([0, 1, 2**40])).tolist() == [
        0.5022055096852076,
        0.0640586010396893,
        0.660811815241195,
    ]
