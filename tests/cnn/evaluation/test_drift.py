"""The distance of means and its p value, against scipy's permutation test."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import permutation_test

from cnn.evaluation.drift import mean_distance


def sample(seed: int, images: int, shift: float = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(shift, size=(images, 6))


@pytest.mark.parametrize("shift", [0, 0.3, 0.5])
def test_p_value_is_scipys(shift: float) -> None:
    before, now = sample(0, 40), sample(1, 15, shift)
    both = np.concatenate([before, now])

    def distance(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
        return float(np.linalg.norm(both[first].mean(0) - both[second].mean(0)))

    numbers = np.split(np.arange(55), [40])
    expected = permutation_test(numbers, distance, n_resamples=2000, alternative="greater", vectorized=False, rng=0)
    found, p = mean_distance(before, now)
    assert found == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=0.06)  # three standard errors of both estimates at .5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), images=st.integers(1, 12))
def test_neither_order_nor_scale_matters(seed: int, images: int) -> None:
    before, now = sample(seed, 20), sample(seed + 100, images)
    found = mean_distance(before, now, seed)
    assert mean_distance(before, now, seed) == found and 0.001 <= found[1] <= 1
    assert mean_distance(8 * before, 8 * now, seed) == pytest.approx((8 * found[0], found[1]))
    assert mean_distance(now, before)[0] == pytest.approx(found[0])


def test_alike_samples_are_rarely_called_different() -> None:
    ps = np.array([mean_distance(sample(seed, 30), sample(seed + 1000, 10))[1] for seed in range(200)])
    assert (ps <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert 0.4 <= ps.mean() <= 0.6
