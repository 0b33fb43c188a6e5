"""Calibrating: fitting the temperature, and choosing the threshold, on images that a network did not learn from."""

import logging
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import StringConstraints

from cnn.evaluation.answers import MOST_PROBABLE, Calibration
from cnn.support.errors import UserError

logger = logging.getLogger(__name__)

#: What a threshold is chosen for: ``f1``, ``balanced`` (accuracy), ``precision:P``, ``recall:R``; or the threshold.
Aim = Annotated[
    str, StringConstraints(pattern=r"^(f1|balanced|((precision|recall):)?0?\.\d*[1-9]\d*|(precision|recall):1)$")
]
_LOG_TEMPERATURES = (-3.0, 3.0)


def require_threshold(aim: str, classes: int, positive: int | None) -> None:
    """Refuse an aim that needs a class whose probability is compared with a threshold, where there is none.

    Raises:
        UserError: says what to set.

    >>> require_threshold("0.5", 10, None)
    """
    if aim == MOST_PROBABLE:
        return
    if classes != 2:
        raise UserError(
            f"threshold {aim}: a threshold needs two classes, and there are {classes}; set {MOST_PROBABLE}, by which "
            "the most probable class is predicted."
        )
    if positive is None:
        raise UserError(f"threshold {aim}: it is unknown of which class; name that class by the setting positive.")


def calibrate(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], positive: int | None, aim: str = MOST_PROBABLE
) -> Calibration:
    """The calibration of a network by its probabilities (n, classes) for labelled images that it did not learn from.

    Raises:
        UserError: the aim needs two classes, one of them ``positive``.
    """
    require_threshold(aim, probabilities.shape[1], positive)
    scaled = Calibration(temperature=fit_temperature(labels, probabilities), aim=aim)
    if aim == MOST_PROBABLE or positive is None:
        return scaled
    threshold = choose_threshold(labels == positive, scaled.apply(probabilities)[:, positive], aim)
    return replace(scaled, positive=positive, threshold=threshold)


def fit_temperature(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """The temperature of the least log loss, to three decimals.

    Guo et al. 2017, "On calibration of modern neural networks". Labels are smoothed by as much as one image of each
    class weighs, so that answers which are all right do not become certain (Platt 1999, "Probabilistic outputs for
    support vector machines").

    Args:
        labels: (n,).
        probabilities: (n, classes), of images that the network did not learn from.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    classes = probabilities.shape[1]
    logits = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
    targets = np.full(logits.shape, 1 / (len(labels) + classes))
    targets[np.arange(len(labels)), labels] *= len(labels) + 1

    def loss(log_temperature: float) -> Any:
        return -(targets * log_softmax(logits / np.exp(log_temperature), axis=1)).sum()

    found = minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded")
    return round(float(np.exp(found.x)), 3)


def choose_threshold(is_positive: NDArray[np.bool_], scores: NDArray[np.float32], aim: str) -> float:
    """The threshold, midway between two scores, that serves an aim best; a number is itself the threshold.

    ``precision:P`` asks for the highest recall at that precision, ``recall:R`` for the highest precision at that
    recall. A precision that no threshold attains is logged; the highest there is takes its place.

    Args:
        is_positive: (n,), whether an image is of the class.
        scores: (n,), its probabilities.

    >>> choose_threshold(np.array([False, True, False, True]), np.array([0.1, 0.4, 0.5, 0.9]), "recall:1")
    0.25
    """
    kind, _, wanted = aim.rpartition(":")
    if not kind and wanted not in ("f1", "balanced"):
        return float(aim)
    order = np.argsort(-scores, kind="stable")
    ranked, positives = scores[order].astype(np.float64), is_positive.sum()
    hits, count = np.cumsum(is_positive[order]), np.arange(1, len(scores) + 1)
    precision, recall = hits / count, hits / max(1, positives)
    if kind == "precision":
        served = np.where(precision >= float(wanted), recall, precision - 2)
    elif kind == "recall":
        served = np.where(recall >= float(wanted), precision, recall - 2)
    elif wanted == "f1":
        served = 2 * hits / (count + positives)
    else:
        served = recall - (count - hits) / max(1, len(scores) - positives)
    below = np.append(ranked[1:], -1)  # so that a score of 0 can be reached, too
    best = int(np.where(ranked == below, -np.inf, served).argmax())  # equal scores are on one side
    if served[best] < -1:
        logger.warning("threshold %s: not attained; the highest precision is %.3f", aim, precision[best])
    return float((ranked[best] + max(0, below[best])) / 2)
