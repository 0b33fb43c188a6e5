"""Predictions on a split, against scikit-learn and sorting in Python."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from cnn.evaluation.answers import Calibration
from cnn.evaluation.predictions import Predictions, load_predictions, save_predictions

CLASSES = ("ant", "bee", "cat")


def make_predictions(count: int = 10, seed: int = 0) -> Predictions:
    """Random labels and probabilities of three classes."""
    rng = np.random.default_rng(seed)
    labels, probabilities = rng.integers(0, 3, count), rng.dirichlet(np.ones(3), count).astype(np.float32)
    ids, names = ([f"{what}{number}" for number in range(count)] for what in ("id", "name"))
    return Predictions(ids, names, labels, probabilities)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 100), st.sampled_from([None, 0, 2]))
def test_metrics_are_scikit_learns(seed: int, positive: int | None) -> None:
    found = make_predictions(seed=seed)
    predicted = found.probabilities.argmax(1)
    metrics = found.metrics(positive)
    f1 = f1_score(found.labels, predicted, labels=[0, 1, 2], average=None, zero_division=0)
    assert metrics.images == 10
    assert metrics.accuracy == pytest.approx(accuracy_score(found.labels, predicted))
    assert metrics.f1 == pytest.approx(f1.mean() if positive is None else f1[positive])
    np.testing.assert_array_equal(found.confusion, confusion_matrix(found.labels, predicted, labels=[0, 1, 2]))


@settings(deadline=None, max_examples=20)
@given(st.sets(st.integers(0, 9), max_size=9))
def test_some_images_can_be_left_out(left_out: set[int]) -> None:
    found = make_predictions()
    others = [number for number in range(10) if number not in left_out]
    rest = found.without({f"id{number}" for number in left_out})
    assert list(rest.ids) == [f"id{number}" for number in others]
    assert list(rest.names) == [f"name{number}" for number in others]
    assert rest.metrics(None).images == len(others)
    expected = accuracy_score(found.labels[others], found.probabilities[others].argmax(1))
    assert rest.metrics(None).accuracy == pytest.approx(expected)


@given(st.integers(0, 100), st.booleans(), st.integers(0, 12))
def test_most_confident_come_first(seed: int, correct: bool, count: int) -> None:
    found = make_predictions(seed=seed)
    chosen = [n for n in range(10) if (found.probabilities[n].argmax() == found.labels[n]) == correct]
    expected = sorted(chosen, key=lambda number: -found.probabilities[number].max())
    assert found.most_confident(correct=correct, count=count) == expected[:count]


def test_caption_names_label_of_mistakes_only() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]], np.float32)
    found = Predictions(["a", "b"], ["a", "b"], np.array([0, 2]), probabilities)
    assert [found.caption(number, CLASSES) for number in (0, 1)] == ["ant 70%", "ant 70%\nis cat"]
    assert found.caption(1, ("a\nnt", "bee", "c\nat")) == "a nt 70%\nis c at"


def test_everything_follows_the_threshold(tmp_path: Path) -> None:
    shares = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]], np.float32)
    raw = Predictions(list("abcd"), list("abcd"), np.array([0, 0, 1, 0]), shares)
    found = raw.calibrated(Calibration(threshold=0.35, positive=0))
    assert found.predicted.tolist() == [0, 0, 1, 1] and found.confusion.tolist() == [[2, 1], [0, 1]]
    assert found.metrics(0).recall == pytest.approx(2 / 3) and raw.metrics(0).recall == pytest.approx(1 / 3)
    assert found.without({"a"}).predicted.tolist() == [0, 1, 1]
    assert [found.caption(number, CLASSES) for number in (1, 3)] == ["ant 40%", "bee 80%\nis ant"]
    assert found.most_confident(correct=True, count=9) == [0, 2, 1]  # by the probability of what is predicted
    save_predictions(tmp_path / "file.parquet", found, CLASSES[:2])
    assert pq.read_table(tmp_path / "file.parquet")["prediction"].to_pylist() == ["ant", "ant", "bee", "bee"]
    again = load_predictions(tmp_path / "file.parquet", CLASSES[:2], found.calibration)
    assert again.predicted.tolist() == [0, 0, 1, 1]


def test_predictions_survive_their_file(tmp_path: Path) -> None:
    found = make_predictions()
    save_predictions(tmp_path / "file.parquet", found, CLASSES)
    again = load_predictions(tmp_path / "file.parquet", CLASSES, found.calibration)
    assert (again.ids, again.names) == (found.ids, found.names)
    np.testing.assert_array_equal(again.labels, found.labels)
    np.testing.assert_array_equal(again.probabilities, found.probabilities)
