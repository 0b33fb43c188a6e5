"""Metrics of a classifier's answers, each with its 95 % interval. Those of every epoch: `cnn.training.metrics`."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cnn.evaluation.intervals import error_interval, percentile_interval, resample
from cnn.training.metrics import Scores

_BINS = 15
_NAMES = {"f1": "F1", "roc_auc": "ROC AUC", "brier_score": "Brier score"}
Floats = NDArray[np.floating]
Interval = tuple[float, float]


class _Measured(BaseModel):
    """Figures and, by name, their 95 % intervals, which older versions do not have."""

    intervals: dict[str, Interval] = {}

    def describe(self, name: str) -> str:
        """A figure for people, with its interval.

        >>> ClassMetrics(precision=1, recall=0.8, f1=0.889, intervals={"f1": (0.8, 0.95)}).describe("f1")
        '0.889 (0.800 to 0.950)'
        """
        value = f"{getattr(self, name):.3f}"
        if interval := self.intervals.get(name):
            return f"{value} ({interval[0]:.3f} to {interval[1]:.3f})"
        return value


class ClassMetrics(_Measured, frozen=True):
    """Precision, recall and F1 of one class, or their means over all classes, each 0…1, 0 where undefined."""

    precision: float
    recall: float
    f1: float


class Metrics(_Measured, Scores, frozen=True):
    """Metrics of one split.

    Those of one class (precision, recall, F1, average precision, ROC AUC) are of the positive one, or means over all.
    Definitions are scikit-learn's. None: undefined, or a version's that is older than the metric.

    Attributes:
        images: how many they are computed from.
        balanced_accuracy: mean recall of the classes that there are.
        log_loss: mean of -ln p(label).
        brier_score: mean squared error of the probabilities, summed over classes; of one of them where there are two.
        calibration_error: expected difference between the probability of the predicted class and how often it is
            right, in 15 bins of equal width (Guo et al. 2017, "On calibration of modern neural networks").
        classes: figures of each class, in their order.
        mean: their means.
    """

    images: int
    balanced_accuracy: float | None = None
    average_precision: float | None = None
    roc_auc: float | None = None
    log_loss: float | None = None
    brier_score: float | None = None
    calibration_error: float | None = None
    classes: tuple[ClassMetrics, ...] = ()
    mean: ClassMetrics | None = None

    def rows(self) -> Iterator[tuple[str, str]]:
        """Each metric that is known, for people: its name, its value with the interval."""
        for name, value in self:
            if isinstance(value, float):
                yield _NAMES.get(name, name.replace("_", " ")), self.describe(name)
        yield "images", f"{self.images:,}"


class Answers(NamedTuple):
    """Labels (n,), probabilities (n, classes) and predicted classes (n,) of images."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    predicted: NDArray[np.int64]


def measure(answers: Answers, positive: int | None) -> Metrics:
    """All metrics with 95 % intervals: 1,000 times as many images of each class are drawn anew from those there are.

    The same answers give the same intervals. The bounds are percentiles of what is drawn (Efron and Tibshirani 1993,
    "An introduction to the bootstrap", chapter 13). Figures that no draw changes, as where every answer is right, have
    intervals without a width, and little can be said of few images.

    Args:
        positive: index of the class of precision, recall, F1, average precision and ROC AUC; None: their means.
    """
    blocks, noise = [], []
    for weights in resample(answers.labels):
        blocks.append(weighted_metrics(answers, weights, positive))
        noise.append(_calibration_error(answers, weights - 1))
    values, intervals = defaultdict[str, dict[str, float]](dict), defaultdict[str, dict[str, Interval]](dict)
    for (group, name), (value,) in weighted_metrics(answers, np.ones((len(answers.labels), 1)), positive).items():
        if not np.isnan(value):
            drawn = np.concatenate([block[group, name] for block in blocks])
            values[group][name], intervals[group][name] = float(value), percentile_interval(drawn)
            if name == "calibration_error":
                intervals[group][name] = error_interval(float(value), drawn, np.concatenate(noise))
    parts = {group: ClassMetrics(**values[group], intervals=intervals[group]) for group in values if group}
    mean = parts.pop("mean")
    return Metrics(
        **values[""],
        images=len(answers.labels),
        classes=tuple(parts.values()),
        mean=mean,
        intervals=intervals[""],
    )


def weighted_metrics(answers: Answers, weights: Floats, positive: int | None) -> dict[tuple[str, str], Floats]:
    """Metrics of images that count more than once, or not at all, for many such weights at a time.

    Args:
        weights: (n, draws); in each column the weights of a class have the same sum as in the others.

    Returns:
        By group and name (draws,) figures: of all, ``""``, of the ``mean`` over classes, of each class by its index;
        not a number where undefined.
    """
    labels, probabilities, predicted = answers
    images, counts = max(1, len(labels)), np.bincount(labels, minlength=probabilities.shape[1])
    rates = _rates(answers, weights)
    asked = [positive] if positive is not None else np.flatnonzero(counts)
    rankings = [
        _ranking(labels == each, probabilities[:, each], weights) for each in asked if 0 < counts[each] < len(labels)
    ]
    average_precision, area = np.mean(rankings, 0) if rankings else np.full((2, weights.shape[1]), np.nan)
    squares = ((probabilities - np.eye(len(counts))[labels]) ** 2).sum(1) / (2 if len(counts) == 2 else 1)
    epsilon = np.finfo(probabilities.dtype).eps
    surprise = -np.log(np.clip(probabilities[np.arange(len(labels)), labels], epsilon, 1 - epsilon))
    overall = {
        "accuracy": _sums(labels == predicted, weights) / images,
        **{name: rate.mean(0) if positive is None else rate[positive] for name, rate in rates.items()},
        "balanced_accuracy": rates["recall"].sum(0) / max(1, (counts > 0).sum()),
        "average_precision": average_precision,
        "roc_auc": area,
        "log_loss": _sums(surprise, weights) / images,
        "brier_score": _sums(squares, weights) / images,
        "calibration_error": _calibration_error(answers, weights),
    }
    groups = {"": overall, "mean": {name: rate.mean(0) for name, rate in rates.items()}}
    groups |= {str(each): {name: rate[each] for name, rate in rates.items()} for each in range(len(counts))}
    return {(group, name): figures for group, found in groups.items() for name, figures in found.items()}


def _sums(values: NDArray[Any], weights: Floats) -> Floats:
    """Weighted sums (…, draws) of values (…, n), in the precision of the weights."""
    return values.astype(weights.dtype) @ weights


def _rates(answers: Answers, weights: Floats) -> dict[str, Floats]:
    """Precision, recall and F1 of each class, (classes, draws)."""
    labels, probabilities, predicted = answers
    each = np.eye(probabilities.shape[1], dtype=bool)
    hits = _sums(each[:, labels] & (labels == predicted), weights)
    actual, called = _sums(each[:, labels], weights), _sums(each[:, predicted], weights)
    parts = {"precision": (hits, called), "recall": (hits, actual), "f1": (2 * hits, actual + called)}
    return {name: part / np.maximum(1, whole) for name, (part, whole) in parts.items()}


def _ranking(is_positive: NDArray[np.bool_], scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Average precision and area under the ROC curve, each (draws,), of scores (n,) for images of a class."""
    order = np.argsort(-scores, kind="stable")
    descending, own = -scores[order], order[is_positive[order]]
    called, hits = _cumulated(weights[order]), _cumulated(weights[own])
    # for each positive how many positives, and how many images, have a higher score, and a score as high
    (higher, hits_higher), (as_high, hits_as_high) = (
        (np.searchsorted(descending, -scores[own], side), np.searchsorted(-scores[own], -scores[own], side))
        for side in ("left", "right")
    )
    precision = hits[hits_as_high] / np.maximum(1, called[as_high])
    wrong = (called[higher] + called[as_high] - hits[hits_higher] - hits[hits_as_high]) / 2  # of equals half
    positives, negatives = hits[-1], called[-1] - hits[-1]
    mean_precision, mean_wrong = ((weights[own] * each).sum(0) / positives for each in (precision, wrong))
    return mean_precision, 1 - mean_wrong / negatives


def _cumulated(weights: Floats) -> Floats:
    """Sums (n + 1, draws) of the first 0, 1, … n weights."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]), weights.dtype)
    np.cumsum(weights, 0, out=sums[1:])
    return sums


def _calibration_error(answers: Answers, weights: Floats) -> Floats:
    """The calibration error, (draws,)."""
    labels, probabilities, predicted = answers
    confidence = probabilities[np.arange(len(labels)), predicted]
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    gaps = np.eye(_BINS)[:, bins] * (confidence - (labels == predicted))
    return np.abs(_sums(gaps, weights)).sum(0) / max(1, len(labels))
