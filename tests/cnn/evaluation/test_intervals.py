"""Images drawn anew, and the intervals that they give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from cnn.evaluation import intervals
from cnn.evaluation.intervals import draw_f1, error_interval, percentile_interval, resample
from cnn.evaluation.metrics import Answers, weighted_metrics


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(0, 10))
def test_as_many_of_each_class_are_drawn_as_there_are(labels: list[int], seed: int) -> None:
    weights = np.concatenate(list(resample(np.array(labels), 7, seed)), 1)
    assert weights.shape == (len(labels), 7) and (weights >= 0).all()
    for each in set(labels):
        assert (weights[np.array(labels) == each].sum(0) == labels.count(each)).all()


def test_draws_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_WEIGHTS_AT_ONCE", 25)
    blocks = list(resample(np.arange(10) % 2, 5))
    assert [block.shape for block in blocks] == [(10, 2), (10, 2), (10, 1)]


@pytest.mark.parametrize("positive", [None, 2])
def test_f1_of_a_confusion_matrix_spreads_as_that_of_images(positive: int | None) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    predicted = np.where(rng.random(100) < 0.7, labels, rng.integers(0, 3, 100))
    answers = Answers(labels, np.full((100, 3), 1 / 3, np.float32), predicted)
    (weights,) = resample(labels)
    images = weighted_metrics(answers, weights, positive)["", "f1"]
    counts = draw_f1(confusion_matrix(labels, predicted), positive)
    assert percentile_interval(counts) == pytest.approx(percentile_interval(images), abs=0.02)


def test_classes_without_images_have_no_f1() -> None:
    assert not draw_f1(np.zeros((2, 2), int), 1).any()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.floats(0, 1))
def test_error_interval_holds_the_value(drawn: list[float], value: float) -> None:
    low, high = error_interval(value, np.array(drawn), np.array(drawn))
    assert 0 <= low <= value <= high
