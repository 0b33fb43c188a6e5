"""Paired comparison, against SciPy's bootstrap, the binomial sums of McNemar's test, and simulated classifiers."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import f1_score

from cnn.evaluation.paired import compare_paired, mcnemar

COUNTS = st.integers(0, 60)


@given(COUNTS, COUNTS)
def test_p_is_the_sum_of_the_tails(gained: int, lost: int) -> None:
    count, less = gained + lost, min(gained, lost)
    tail = sum(comb(count, number) for number in range(less + 1)) / 2**count
    assert mcnemar(gained, lost) == pytest.approx(min(1, 2 * tail))


def answers(seed: int, count: int, right: float) -> np.ndarray:
    """Labels and the predictions of two classifiers, each right so often, (3, count)."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % 2
    return np.stack([labels, *(np.where(rng.random(count) < right, labels, 1 - labels) for _ in range(2))])


@pytest.mark.parametrize("positive", [1, None])
def test_interval_is_that_of_scipys_bootstrap(positive: int | None) -> None:
    labels, candidate, champion = answers(0, 200, 0.8)
    found = compare_paired(labels, candidate, champion, classes=2, positive=positive, figure="f1")

    def f1(chosen: np.ndarray, predicted: np.ndarray) -> float:
        return f1_score(labels[chosen], predicted[chosen], average="macro" if positive is None else "binary")

    def difference(zeros: np.ndarray, ones: np.ndarray) -> float:
        chosen = np.concatenate([zeros, ones])
        return f1(chosen, candidate) - f1(chosen, champion)

    assert found.difference == pytest.approx(difference(*(np.flatnonzero(labels == label) for label in (0, 1))))
    samples = [np.flatnonzero(labels == label) for label in (0, 1)]
    expected = bootstrap(
        samples, difference, n_resamples=200, vectorized=False, method="percentile", random_state=0
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found == compare_paired(labels, candidate, champion, classes=2, positive=positive, figure="f1")


def test_interval_covers_the_true_difference() -> None:
    covered = 0
    for seed in range(200):
        found = compare_paired(*answers(seed, 150, 0.8), classes=2, positive=None, figure="accuracy", seed=seed)
        covered += found.low <= 0 <= found.high
    assert covered >= 180  # 190 are expected; fewer come by chance once in a thousand times


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(2, 4))
def test_exchanged_classifiers_have_the_opposite_difference(seed: int, count: int, classes: int) -> None:
    labels, one, other = np.random.default_rng(seed).integers(0, classes, (3, count))
    found, back = (
        compare_paired(labels, *pair, classes=classes, positive=None, figure="f1")
        for pair in ((one, other), (other, one))
    )
    assert (found.difference, found.gained, found.p) == (-back.difference, back.lost, back.p)
    same = compare_paired(labels, one, one, classes=classes, positive=None, figure="f1")
    assert (same.low, same.difference, same.high, same.p) == (0, 0, 0, 1)
