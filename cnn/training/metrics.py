"""Metrics: accuracy, precision, recall and F1 from a confusion matrix. Every epoch and every report uses them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cnn.support.errors import UserError

Confusion = NDArray[np.int64]


class Scores(BaseModel):
    """Metrics of a classifier, each 0…1, 0 where undefined."""

    model_config = ConfigDict(frozen=True)

    accuracy: float
    precision: float
    recall: float
    f1: float


def confusion_matrix(labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int) -> Confusion:
    """How often class *row* was predicted as class *column*: (classes, classes) counts.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    cells = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return cells.reshape(classes, classes)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def scores(confusion: Confusion, positive: int | None) -> Scores:
    """Metrics of a confusion matrix.

    Precision, recall and F1 are those of the class ``positive``, or the mean over all classes if it is None.

    >>> scores(np.array([[1, 0], [1, 1]]), positive=1).recall
    0.5
    """
    hits = np.diag(confusion)
    precision, recall = _ratio(hits, confusion.sum(0)), _ratio(hits, confusion.sum(1))
    f1 = _ratio(2 * hits, confusion.sum(0) + confusion.sum(1))
    chosen = slice(None) if positive is None else slice(positive, positive + 1)
    return Scores(
        accuracy=float(hits.sum() / max(1, confusion.sum())),
        precision=float(precision[chosen].mean()),
        recall=float(recall[chosen].mean()),
        f1=float(f1[chosen].mean()),
    )


def positive_class(classes: Sequence[str], name: str | None) -> int | None:
    """Index of the positive class: ``name``, or ``hotdog`` in any spelling, or None (the mean over all classes).

    Raises:
        UserError: there is no class ``name``.

    >>> positive_class(["hot_dog", "not_hot_dog"], None)
    0
    """
    if name is not None:
        if name not in classes:
            raise UserError(f"positive class {name!r}: there is no such class; choose one of {', '.join(classes)}.")
        return list(classes).index(name)
    plain = ["".join(filter(str.isalpha, label.lower())) for label in classes]
    return plain.index("hotdog") if "hotdog" in plain else None
