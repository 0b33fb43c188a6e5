"""The interval of a share, against SciPy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest  # type: ignore[import-untyped]

from cnn.evaluation.intervals import wilson_interval

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
