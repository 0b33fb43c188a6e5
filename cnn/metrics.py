"""Accuracy, precision, recall and F1 from a confusion matrix, and how far chance could have moved an accuracy."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnn.errors import UserError

Confusion = NDArray[np.int64]

_Z = 1.959964  # 95 % of a normal distribution are within so many standard deviations


def confusion_matrix(labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int) -> Confusion:
    """How often class *row* was taken for class *column*: (classes, classes) counts.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    cells = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return cells.reshape(classes, classes)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def scores(confusion: Confusion, positive: int | None) -> dict[str, float]:
    """Accuracy, precision, recall and F1 (all 0…1, 0 where undefined).

    Precision, recall and F1 are about the class ``positive``, or the mean over all classes if it is None.

    >>> scores(np.array([[1, 0], [1, 1]]), positive=1)["recall"]
    0.5
    """
    hits = np.diag(confusion)
    precision, recall = _ratio(hits, confusion.sum(0)), _ratio(hits, confusion.sum(1))
    f1 = _ratio(2 * hits, confusion.sum(0) + confusion.sum(1))
    chosen = slice(None) if positive is None else slice(positive, positive + 1)
    return {
        "accuracy": float(hits.sum() / max(1, confusion.sum())),
        "precision": float(precision[chosen].mean()),
        "recall": float(recall[chosen].mean()),
        "f1": float(f1[chosen].mean()),
    }


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval (0…1) of a share of which ``hits`` of ``count`` is an estimate; 0…1 if ``count`` is 0.

    Unlike the estimate ± its standard error it stays inside 0…1 and holds for few pictures, too (E. B. Wilson 1927,
    "Probable inference, the law of succession, and statistical inference").

    >>> low, high = wilson_interval(7010, 10_000)
    >>> f"{low:.3f} to {high:.3f}"
    '0.692 to 0.710'
    """
    spread = _Z * math.sqrt(hits * (count - hits) / max(1, count) + _Z * _Z / 4)
    middle, whole = hits + _Z * _Z / 2, count + _Z * _Z
    return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)


def positive_class(classes: Sequence[str], name: str | None) -> int | None:
    """Index of the class that F1 is about: ``name``, or ``hotdog`` however it is spelt, or None (all classes).

    Raises:
        UserError: there is no class ``name``.

    >>> positive_class(["hot_dog", "not_hot_dog"], None)
    0
    """
    if name is not None:
        if name not in classes:
            raise UserError(f"--positive {name}: there is no such class; choose one of {', '.join(classes)}.")
        return list(classes).index(name)
    plain = ["".join(filter(str.isalpha, label.lower())) for label in classes]
    return plain.index("hotdog") if "hotdog" in plain else None
