"""Metrics of answers against scikit-learn's, of weighted images, too; their intervals against images drawn anew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from cnn.evaluation.intervals import resample
from cnn.evaluation.metrics import Answers, Metrics, measure, weighted_metrics
from cnn.training.metrics import confusion_matrix, scores


def draw_answers(count: int, classes: int, seed: int, *, decimals: int = 7, sharpness: float = 1.0) -> Answers:
    """Answers of which some are right; with few decimals many probabilities are equal.

    ``sharpness`` 1: calibrated, as labels are drawn with the probabilities.
    """
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.full(classes, 0.5), count)
    labels = (truth.cumsum(1) > rng.random((count, 1))).argmax(1)
    answered = truth**sharpness + 1e-6
    answered = (answered / answered.sum(1, keepdims=True)).round(decimals) + 1e-6
    probabilities = (answered / answered.sum(1, keepdims=True)).astype(np.float32)
    return Answers(labels, probabilities, probabilities.argmax(1))


def expected(answers: Answers, weights: np.ndarray, positive: int | None) -> dict[str, float]:
    """What scikit-learn says."""
    labels, predicted = answers.labels, answers.predicted
    shares = answers.probabilities / answers.probabilities.astype(np.float64).sum(1, keepdims=True)
    classes = np.arange(shares.shape[1])
    truth, given = np.eye(len(classes))[labels], {"sample_weight": weights}
    rates = oracle.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0, **given)[:3]
    ranks = [
        (
            oracle.average_precision_score(truth[:, each], answers.probabilities[:, each], **given),
            oracle.roc_auc_score(truth[:, each], answers.probabilities[:, each], **given),
        )
        for each in classes
    ]
    chosen = slice(None) if positive is None else [positive]
    return {
        "accuracy": oracle.accuracy_score(labels, predicted, **given),
        "balanced_accuracy": oracle.balanced_accuracy_score(labels, predicted, **given),
        **{name: rate[chosen].mean() for name, rate in zip(("precision", "recall", "f1"), rates, strict=True)},
        **dict(zip(("average_precision", "roc_auc"), np.mean(np.array(ranks)[chosen], 0), strict=True)),
        "log_loss": oracle.log_loss(labels, shares, labels=classes, **given),
        "brier_score": oracle.brier_score_loss(labels, shares, labels=classes, **given),
    }


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 4), st.sampled_from([1, 7]), st.integers(0, 1000), st.booleans())
def test_metrics_are_scikit_learns(classes: int, decimals: int, seed: int, one: bool) -> None:
    answers = draw_answers(60, classes, seed, decimals=decimals)
    if len(np.unique(answers.labels)) < classes:
        return
    positive = 1 if one else None
    (weights,) = resample(answers.labels, draws=2)
    found = weighted_metrics(answers, weights, positive)
    for name, value in expected(answers, weights[:, 1], positive).items():
        assert found["", name][1] == pytest.approx(value, abs=1e-5), name
    metrics = measure(answers, positive)
    for name, value in expected(answers, np.ones(60), positive).items():
        assert getattr(metrics, name) == pytest.approx(value, abs=1e-6), name
    assert metrics.images == 60 and metrics.mean and len(metrics.classes) == classes
    confusion = confusion_matrix(answers.labels, answers.predicted, classes)
    for which, part in ((None, metrics.mean), *enumerate(metrics.classes)):
        assert [part.precision, part.recall, part.f1] == pytest.approx(
            list(dict(scores(confusion, which)).values())[1:]
        )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100), st.integers(2, 3))
def test_calibration_error_is_that_of_bins(seed: int, classes: int) -> None:
    answers = draw_answers(80, classes, seed, decimals=2)
    confidence, right = answers.probabilities.max(1), answers.labels == answers.predicted
    error = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        error += abs((confidence[inside] - right[inside]).sum()) / 80
    assert measure(answers, None).calibration_error == pytest.approx(error, abs=1e-6)


def test_intervals_are_those_of_images_drawn_anew() -> None:
    answers, rng = draw_answers(200, 3, 0), np.random.default_rng(1)
    own = [np.flatnonzero(answers.labels == each) for each in range(3)]
    chosen = np.stack([np.concatenate([rng.choice(each, len(each)) for each in own]) for _ in range(2000)])
    labels, probabilities, predicted = (each[chosen] for each in answers)
    surprise = -np.log(np.take_along_axis(probabilities, labels[:, :, None], 2))
    found = measure(answers, None).intervals
    for name, drawn in {"accuracy": labels == predicted, "log_loss": surprise[:, :, 0]}.items():
        bounds = np.quantile(drawn.mean(1), [0.025, 0.975])
        assert found[name] == pytest.approx(bounds, abs=0.15 * (bounds[1] - bounds[0])), name


def test_the_same_answers_have_the_same_intervals() -> None:
    assert measure(draw_answers(100, 3, 0), None) == measure(draw_answers(100, 3, 0), None)


@pytest.mark.slow
@pytest.mark.parametrize("sharpness", [1.0, pytest.param(2.0, marks=pytest.mark.long)])
def test_intervals_hold_the_truth_nineteen_times_of_twenty(sharpness: float) -> None:
    everything, rng = draw_answers(100_000, 2, 0, sharpness=sharpness), np.random.default_rng(1)
    found = weighted_metrics(everything, np.ones((100_000, 1)), 1)
    truth = {name: float(figures[0]) for (group, name), figures in found.items() if not group}
    own, held = [np.flatnonzero(everything.labels == each) for each in (0, 1)], dict.fromkeys(truth, 0)
    for _ in range(100):
        chosen = np.concatenate([rng.choice(each, 150, replace=False) for each in own])
        for name, (low, high) in measure(Answers(*(each[chosen] for each in everything)), 1).intervals.items():
            held[name] += low <= truth[name] <= high
    assert min(held.values()) >= 88, held  # 95 ± 2 of 100


def test_what_is_undefined_is_unknown() -> None:
    one_class = Answers(np.zeros(4, int), np.full((4, 2), 0.5, np.float32), np.zeros(4, int))
    found = measure(one_class, 0)
    assert found.roc_auc is None and found.average_precision is None and "roc_auc" not in found.intervals
    assert found.accuracy == found.balanced_accuracy == 1
    empty = measure(Answers(np.zeros(0, int), np.zeros((0, 2), np.float32), np.zeros(0, int)), None)
    assert (empty.images, empty.accuracy, empty.f1) == (0, 0, 0)


def test_absent_classes_do_not_count_in_rankings() -> None:
    answers = draw_answers(50, 2, 0)
    padded = np.pad(answers.probabilities, ((0, 0), (0, 1)))
    assert measure(answers._replace(probabilities=padded), None).roc_auc == pytest.approx(measure(answers, 0).roc_auc)


def test_rows_are_for_people() -> None:
    rows = dict(measure(draw_answers(1500, 2, 0), 1).rows())
    assert rows.keys() >= {"accuracy", "F1", "ROC AUC", "Brier score", "calibration error", "images"}
    assert rows["images"] == "1,500"
    value, low, _, high = rows["F1"].replace("(", "").replace(")", "").split()
    assert float(low) < float(value) < float(high)
    older = Metrics(accuracy=0.5, precision=0.5, recall=0.5, f1=0.5, images=2)
    assert dict(older.rows()) == dict.fromkeys(("accuracy", "precision", "recall", "F1"), "0.500") | {"images": "2"}
