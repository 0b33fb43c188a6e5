"""The head: multinomial logistic regression on mean features, solved and not trained.

The notebook trains SqueezeNet's output block by gradient descent on frozen features. On the mean of these over all
positions that is a convex problem: it has one solution, no learning rate and no random seed. The strength of its
L2 penalty is chosen by cross-validation on the log loss (Hastie, Tibshirani and Friedman 2009, "The elements of
statistical learning", sections 4.4 and 7.10).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cnn.support.parallel import ordered_map
from cnn.support.progress import track
from cnn.training.hyperparameters import HeadStage
from cnn.training.metrics import Confusion, confusion_matrix

if TYPE_CHECKING:  # it takes a second, and a cached run solves nothing
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
#: Shares of the images at which the learning curve is measured.
_SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
#: Of the gradient: of heads that are only measured, and of the one that is kept.
MEASURED, KEPT = 1e-4, 1e-8
MOST_ITERATIONS = 10_000


@dataclass(frozen=True)
class Strength:
    """How good the head is at one strength of the penalty: mean log loss over the folds and its standard error."""

    strength: float
    log_loss: float
    log_loss_error: float
    confusion: Confusion

    def facts(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return asdict(self) | {"confusion": self.confusion.tolist()}


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


@dataclass(frozen=True)
class _Examples:
    """Features (n, channels) and labels (n,) of images."""

    features: NDArray[np.float32]
    labels: Indices
    stage: HeadStage

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    def solve(
        self, chosen: Indices, strengths: tuple[float, ...], tolerance: float = MEASURED
    ) -> "Iterator[tuple[StandardScaler, LogisticRegression]]":
        """The head for some images at each strength, each solved from the one before."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler(copy=False)  # of what is a copy already
        values = scaler.fit_transform(self.features[chosen].astype(np.float64))
        weights = "balanced" if self.stage.class_weights == "balanced" else None
        regression = LogisticRegression(class_weight=weights, max_iter=MOST_ITERATIONS, tol=tolerance, warm_start=True)
        for strength in strengths:
            yield scaler, regression.set_params(C=1 / (strength * len(values))).fit(values, self.labels[chosen])

    def predict(self, solved: "tuple[StandardScaler, LogisticRegression]", asked: Indices) -> Floats:
        """Probabilities (n, classes) of some images."""
        scaler, regression = solved
        return regression.predict_proba(scaler.transform(self.features[asked].astype(np.float64)))


def folds_of(labels: Indices, stage: HeadStage, seed: int) -> list[tuple[Indices, Indices]]:
    """Images to solve from and images to measure on, each class in each fold."""
    from sklearn.model_selection import StratifiedKFold

    folds = min(stage.folds, int(np.bincount(labels).min()))
    return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels))


def _held_out(examples: _Examples, strengths: tuple[float, ...], seed: int) -> tuple[Floats, Floats]:
    """Probabilities (strengths, n, classes) by heads solved without the image, and log losses (strengths, folds)."""
    from sklearn.metrics import log_loss

    folds = folds_of(examples.labels, examples.stage, seed)
    probabilities = np.zeros((len(strengths), len(examples.labels), examples.classes))
    losses = np.zeros((len(strengths), len(folds)))

    def measure(fold: tuple[Indices, Indices]) -> list[Floats]:
        return [examples.predict(solved, fold[1]) for solved in examples.solve(fold[0], strengths)]

    found = track(ordered_map(measure, folds), "solving the head", len(folds), "fold")
    for number, ((_, asked), parts) in enumerate(zip(folds, found, strict=True)):
        probabilities[:, asked] = parts
        losses[:, number] = [log_loss(examples.labels[asked], part, labels=range(examples.classes)) for part in parts]
    return probabilities, losses


def solve_head(features: NDArray[np.float32], labels: Indices, stage: HeadStage, seed: int = 0) -> Head:
    """Solve the head with the strength whose cross-validated log loss is least, then on all images.

    Args:
        features: (n, channels).
        labels: (n,), 0, 1, …; each class has two images or more.
        seed: which images are in which fold.
    """
    examples, strengths = _Examples(features, labels, stage), tuple(sorted(stage.strengths, reverse=True))
    with threadpool_limits(1):  # on several threads such small products take twenty times as long
        probabilities, losses = _held_out(examples, strengths, seed)
        best = int(losses.mean(1).argmin())
        ((scaler, regression),) = examples.solve(np.arange(len(labels)), (strengths[best],), KEPT)
    errors = losses.std(1, ddof=1) / np.sqrt(losses.shape[1])
    path = tuple(
        Strength(strength, float(loss), float(error), confusion_matrix(labels, found.argmax(1), examples.classes))
        for strength, loss, error, found in zip(strengths, losses.mean(1), errors, probabilities, strict=True)
    )
    weight, bias = unscaled(scaler, regression.coef_, regression.intercept_)
    return Head(weight, bias, path, strengths[best], probabilities[best])


def unscaled(scaler: "StandardScaler", weight: Floats, bias: Floats) -> tuple[Floats, Floats]:
    """Weight and bias of each class for features as the network gives them, from those for standardised features."""
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    if len(weight) == 1:  # two classes: one logit, shared between them
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def learning_curve(
    features: NDArray[np.float32], labels: Indices, strength: float, stage: HeadStage, seed: int = 0
) -> list[tuple[int, Confusion]]:
    """How good the head is when it is solved from fewer images: their number, and the cross-validated confusion."""
    examples = _Examples(features, labels, stage)
    folds, curve = folds_of(labels, stage, seed), list[tuple[int, Confusion]]()

    def measure(chosen: Indices, asked: Indices) -> Confusion:
        (solved,) = examples.solve(chosen, (strength,))
        return confusion_matrix(labels[asked], examples.predict(solved, asked).argmax(1), examples.classes)

    with threadpool_limits(1):
        for share in _SHARES:
            parts = [_part(solve, labels, share, seed) for solve, _ in folds]
            if all(len(part) for part in parts):
                pairs = zip(parts, (asked for _, asked in folds), strict=True)
                confusions = list(ordered_map(lambda pair: measure(*pair), pairs))
                curve.append((round(np.mean([len(part) for part in parts])), np.sum(confusions, 0)))
    return curve


def _part(indices: Indices, labels: Indices, share: float, seed: int) -> Indices:
    """A share 0…1 of these images, of each class; none if a class would have none."""
    from sklearn.model_selection import train_test_split

    if share == 1:
        return indices
    if np.bincount(labels[indices]).min() * share < 1:
        return indices[:0]
    return train_test_split(indices, train_size=share, stratify=labels[indices], random_state=seed)[0]
