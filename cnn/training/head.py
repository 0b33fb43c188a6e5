"""The head: multinomial logistic regression on mean features, solved and not trained.

The notebook trains SqueezeNet's output block by gradient descent on frozen features. On the mean of these over all
positions that is a convex problem: it has one solution, no learning rate and no random seed. The strength of its
L2 penalty is chosen by cross-validation on the log loss (Hastie, Tibshirani and Friedman 2009, "The elements of
statistical learning", sections 4.4 and 7.10).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from cnn.support.errors import UserError
from cnn.training.hyperparameters import HeadStage
from cnn.training.metrics import confusion_matrix

Floats = NDArray[np.float64]
#: Shares of the images at which the learning curve is measured.
_SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Strength:
    """How good the head is at one strength of the penalty: mean log loss over the folds and its standard error."""

    strength: float
    log_loss: float
    log_loss_error: float
    confusion: NDArray[np.int64]


@dataclass(frozen=True)
class Head:
    """A solved head: logits = features · weightᵀ + bias.

    Attributes:
        weight, bias: (classes, channels) and (classes,), for features as the network gives them.
        path: the strengths that were tried.
        strength: the one that was chosen.
        held_out: probabilities (n, classes) of each image by a head that was solved without it.
    """

    weight: Floats
    bias: Floats
    path: tuple[Strength, ...]
    strength: float
    held_out: Floats


def _fit(features: Floats, labels: NDArray[np.int64], strength: float, stage: HeadStage) -> Pipeline:
    """Solve for images (n, views, channels); each view of an image is an example of its class."""
    count, views, channels = features.shape
    weights = "balanced" if stage.class_weights == "balanced" else None
    regression = LogisticRegression(C=1 / (strength * count * views), class_weight=weights, max_iter=1000)
    estimator = make_pipeline(StandardScaler(), regression)
    with threadpool_limits(1):  # on several threads such small products take twenty times as long
        return estimator.fit(features.reshape(-1, channels), np.repeat(labels, views))


def _logits(estimator: Pipeline, central: Floats) -> Floats:
    """Logits (n, classes) of central views (n, channels)."""
    scores = np.asarray(estimator.decision_function(central))
    return np.stack([-scores / 2, scores / 2], 1) if scores.ndim == 1 else scores


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _folds(labels: NDArray[np.int64], stage: HeadStage, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Images to solve from and images to measure on, (train, test) indices, each class in each fold.

    Raises:
        UserError: a class has fewer than two images.
    """
    smallest = int(np.bincount(labels).min())
    if smallest < 2:
        raise UserError("a class has fewer than two images that are not test images; add some.")
    folds = StratifiedKFold(min(stage.folds, smallest), shuffle=True, random_state=seed)
    return list(folds.split(labels, labels))


def _held_out(
    features: Floats, labels: NDArray[np.int64], strength: float, stage: HeadStage, seed: int
) -> tuple[Floats, list[float]]:
    """Probabilities of each image by a head solved without it, and the log loss of each fold."""
    probabilities = np.zeros((len(labels), int(labels.max()) + 1))
    losses = []
    for solve, measure in _folds(labels, stage, seed):
        estimator = _fit(features[solve], labels[solve], strength, stage)
        probabilities[measure] = _softmax(_logits(estimator, features[measure, 0]))
        losses.append(log_loss(labels[measure], probabilities[measure], labels=range(probabilities.shape[1])))
    return probabilities, losses


def solve_head(features: NDArray[np.float32], labels: NDArray[np.int64], stage: HeadStage, seed: int = 0) -> Head:
    """Solve the head with the strength whose cross-validated log loss is least, then on all images.

    Args:
        features: (n, views, channels); the first view is the one that the network is asked about.
        labels: (n,), 0, 1, …; each class has two images or more.

    Raises:
        UserError: a class has fewer than two images.
    """
    values, found = features.astype(np.float64), []
    for strength in stage.strengths:
        probabilities, losses = _held_out(values, labels, strength, stage, seed)
        confusion = confusion_matrix(labels, probabilities.argmax(1), probabilities.shape[1])
        error = float(np.std(losses, ddof=1) / np.sqrt(len(losses)))
        found.append((Strength(strength, float(np.mean(losses)), error, confusion), probabilities))
    best, held_out = min(found, key=lambda each: each[0].log_loss)
    estimator = _fit(values, labels, best.strength, stage)
    scaler, regression = estimator[0], estimator[1]
    weight, bias = regression.coef_ / scaler.scale_, regression.intercept_
    bias = bias - weight @ scaler.mean_
    if len(weight) == 1:  # two classes: one logit, shared between them
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Head(weight, bias, tuple(each for each, _ in found), best.strength, held_out)


def learning_curve(
    features: NDArray[np.float32], labels: NDArray[np.int64], strength: float, stage: HeadStage, seed: int = 0
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """How good the head is when it is solved from fewer images: their number, and the cross-validated confusion."""
    values = features.astype(np.float64)
    for share in _SHARES:
        confusion = np.zeros((int(labels.max()) + 1,) * 2, np.int64)
        count = 0
        for solve, measure in _folds(labels, stage, seed):
            chosen = _part(solve, labels, share, seed)
            if chosen is None:
                break
            estimator = _fit(values[chosen], labels[chosen], strength, stage)
            confusion += confusion_matrix(labels[measure], _logits(estimator, values[measure, 0]).argmax(1), len(confusion))
            count = len(chosen)
        else:
            yield count, confusion


def _part(
    indices: NDArray[np.int64], labels: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.int64] | None:
    """A share 0…1 of these images, of each class; None if a class would have none."""
    if share == 1:
        return indices
    if np.bincount(labels[indices]).min() * share < 1:
        return None
    return train_test_split(indices, train_size=share, stratify=labels[indices], random_state=seed)[0]


