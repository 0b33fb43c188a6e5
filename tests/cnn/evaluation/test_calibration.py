"""Calibration: temperature against a grid and against simulated truth, thresholds against all there are."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, precision_score, recall_score

from cnn.evaluation.answers import UNCALIBRATED, Calibration
from cnn.evaluation.calibration import (
    Aim,
    calibrate,
    choose_threshold,
    fit_temperature,
    require_threshold,
)
from cnn.support.errors import UserError


def draw(count: int, classes: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the probabilities of a network that is over-confident by this temperature."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, classes))
    labels = (softmax(logits, 1).cumsum(1) > rng.random((count, 1))).argmax(1)
    return labels, softmax(temperature * logits, 1).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_undoes_over_confidence(classes: int, temperature: float) -> None:
    labels, probabilities = draw(20_000, classes, temperature, 0)
    found = fit_temperature(labels, probabilities)
    assert found == pytest.approx(temperature, rel=0.05)
    grid = {
        each: log_loss(labels, Calibration(temperature=each).apply(probabilities.astype(float)))
        for each in (0.97 * found, found, 1.03 * found)
    }
    assert min(grid, key=grid.__getitem__) == found


def test_right_answers_do_not_become_certain() -> None:
    labels = np.tile([0, 1], 5)
    right = np.where(np.eye(2)[labels] == 1, 0.9, 0.1).astype(np.float32)
    assert calibrate(labels, right, None).apply(right).max() == pytest.approx(1 - 1 / 12, abs=0.001)  # Platt's target
    dead = np.full((10, 2), 0.5, np.float32)
    np.testing.assert_array_equal(calibrate(labels, dead, None).apply(dead), dead)
    certain = np.eye(2, dtype=np.float32)[1 - labels]
    assert np.isfinite(calibrate(labels, certain, None).apply(certain)).all()


@given(st.floats(0.1, 10), st.integers(0, 100))
def test_temperature_divides_logits(temperature: float, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(5, 3))
    found = Calibration(temperature=temperature).apply(softmax(logits, 1))
    np.testing.assert_allclose(found, softmax(logits / temperature, 1), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(UNCALIBRATED.apply(softmax(logits, 1)), softmax(logits, 1))


AIMS = ("f1", "balanced", "precision:0.8", "recall:0.8")


def serves(aim: str, labels: np.ndarray, called: np.ndarray) -> tuple[float, float]:
    """How well predictions serve an aim: whether it is attained, or how nearly, then what is sought beside it."""
    precision, recall = (each(labels, called, zero_division=0) for each in (precision_score, recall_score))
    kind, _, wanted = aim.partition(":")
    if not wanted:
        return 0, {"f1": f1_score, "balanced": balanced_accuracy_score}[kind](labels, called)
    reached, other = (precision, recall) if kind == "precision" else (recall, precision)
    return (1, other) if reached >= float(wanted) else (0, reached)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(AIMS), st.integers(0, 1000), st.sampled_from([1, 7]))
@example("recall:0.8", 327, 1)  # a score of 0
def test_threshold_serves_its_aim_best(aim: str, seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.append(rng.random(13) < 0.4, [True, False])
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1).round(decimals).astype(np.float32)
    threshold = choose_threshold(labels, scores, aim)
    best = max(serves(aim, labels, scores >= each) for each in np.unique(scores))
    assert serves(aim, labels, scores.astype(float) >= threshold) == pytest.approx(best)


def test_threshold_is_on_calibrated_probabilities() -> None:
    labels, probabilities = draw(2000, 2, 3.0, 0)
    found = calibrate(labels, probabilities, 0, "recall:0.95")
    assert found.positive == 0 and found.threshold and found.temperature == pytest.approx(3, rel=0.2)
    decided = found.decide(found.apply(probabilities))
    assert 0.95 <= recall_score(labels == 0, decided == 0) < 0.952
    assert calibrate(labels, probabilities, 0, "0.3").threshold == 0.3
    assert calibrate(labels, probabilities, 0).threshold is None


@given(st.floats(0.01, 0.99), st.integers(0, 1), st.integers(0, 100))
def test_decisions_follow_the_threshold(threshold: float, positive: int, seed: int) -> None:
    probabilities = np.random.default_rng(seed).dirichlet((1, 1), 20).astype(np.float32)
    decided = Calibration(threshold=threshold, positive=positive).decide(probabilities)
    np.testing.assert_array_equal(decided == positive, probabilities[:, positive].astype(float) >= threshold)
    np.testing.assert_array_equal(UNCALIBRATED.decide(probabilities), probabilities.argmax(1))


def test_precision_out_of_reach_is_said(caplog: pytest.LogCaptureFixture) -> None:
    found = choose_threshold(np.array([True, False, True]), np.array([0.2, 0.4, 0.3], np.float32), "precision:0.95")
    assert found == pytest.approx(0.1) and "precision:0.95: not attained; the highest precision is 0.667" in caplog.text


def test_what_cannot_have_a_threshold_is_refused() -> None:
    require_threshold("0.5", 3, None)
    with pytest.raises(UserError, match=r"threshold f1: a threshold needs two classes, and there are 3; set 0\.5"):
        require_threshold("f1", 3, 0)
    with pytest.raises(
        UserError, match=r"threshold 0\.3: it is unknown of which class; name that class by the setting"
    ):
        require_threshold("0.3", 2, None)


@pytest.mark.parametrize("aim", [*AIMS, "0.5", ".25", "recall:1", "precision:.99"])
def test_aims(aim: str) -> None:
    assert TypeAdapter(Aim).validate_python(aim) == aim


@pytest.mark.parametrize("wrong", ["", "F1", "1", "0", "0.0", "1.5", "-0.5", "precision", "recall:2", "f1:0.5", "nan"])
def test_wrong_aims_are_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Aim).validate_python(wrong)
