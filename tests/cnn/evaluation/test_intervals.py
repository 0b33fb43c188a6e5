"""The interval of a share, against SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score

from cnn.evaluation.intervals import f1_interval, wilson_interval

HITS = st.integers(1, 20_000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count)))


@given(HITS)
def test_interval_is_scipys(hits: tuple[int, int]) -> None:
    expected = binomtest(*hits).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(*hits) == pytest.approx((expected.low, expected.high), abs=1e-6)


@given(HITS, st.integers(2, 50))
def test_interval_shrinks_around_the_estimate(hits: tuple[int, int], times: int) -> None:
    low, high = wilson_interval(*hits)
    assert 0 <= low < high <= 1
    assert low - 1e-12 <= hits[0] / hits[1] <= high + 1e-12
    more_low, more_high = wilson_interval(times * hits[0], times * hits[1])
    assert more_high - more_low < high - low


def test_nothing_counted_is_anything() -> None:
    assert wilson_interval(0, 0) == (0, 1)


@pytest.mark.parametrize("positive", [None, 0, 2])
def test_f1_interval_is_that_of_images_drawn_anew(positive: int | None) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    predicted = np.where(rng.random(100) < 0.7, labels, rng.integers(0, 3, 100))
    low, high = f1_interval(confusion_matrix(labels, predicted), positive)
    drawn = []
    for _ in range(2000):  # as many of each class as there are
        chosen = np.concatenate([rng.choice(own := np.flatnonzero(labels == each), len(own)) for each in range(3)])
        scores = f1_score(labels[chosen], predicted[chosen], average=None, labels=[0, 1, 2], zero_division=0)
        drawn.append(scores.mean() if positive is None else scores[positive])
    np.testing.assert_allclose([low, high], np.quantile(drawn, [0.025, 0.975]), atol=0.02)


def test_f1_interval_bears_classes_without_images() -> None:
    assert f1_interval(np.zeros((2, 2), int), 1) == (0, 0)
