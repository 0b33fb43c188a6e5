"""Intervals: how far a measured share may be from the true one."""

import math

import numpy as np
from numpy.typing import NDArray

from cnn.training.metrics import Confusion

_DRAWS = 1000
_Z = 1.959964  # 95 % of a normal distribution are within so many standard deviations


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval (0…1) of a share of which ``hits`` of ``count`` is an estimate; 0…1 if ``count`` is 0.

    Unlike the estimate ± its standard error it stays inside 0…1 and holds for small counts, too (E. B. Wilson 1927,
    "Probable inference, the law of succession, and statistical inference").

    >>> low, high = wilson_interval(7010, 10_000)
    >>> f"{low:.3f} to {high:.3f}"
    '0.692 to 0.710'
    """
    spread = _Z * math.sqrt(hits * (count - hits) / max(1, count) + _Z * _Z / 4)
    middle, whole = hits + _Z * _Z / 2, count + _Z * _Z
    return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)


def f1_interval(confusion: Confusion, positive: int | None) -> tuple[float, float]:
    """The 95 % interval (0…1) of an F1 score: of the class ``positive``, or the mean over the classes.

    By the bootstrap, see `draw_f1`. The same counts give the same interval.

    >>> low, high = f1_interval(np.array([[90, 10], [10, 90]]), 1)
    >>> f"{low:.2f} to {high:.2f}"
    '0.85 to 0.94'
    """
    low, high = np.quantile(draw_f1(confusion, positive), [0.025, 0.975])
    return float(low), float(high)


def draw_f1(confusion: Confusion, positive: int | None, seed: int = 0) -> NDArray[np.float64]:
    """F1 scores, (draws,), of images that are drawn anew, as many of each class as there are, from a confusion matrix.

    Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13. The same counts and seed give the same
    scores.
    """
    rng, counts = np.random.default_rng(seed), np.asarray(confusion)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    shares[counts.sum(1) == 0, 0] = 1  # a class without images: nothing is drawn of it
    draws = np.stack([rng.multinomial(row.sum(), share, _DRAWS) for row, share in zip(counts, shares, strict=True)], 1)
    hits = np.diagonal(draws, axis1=1, axis2=2)
    f1 = 2 * hits / np.maximum(1, draws.sum(2) + draws.sum(1))
    return f1.mean(1) if positive is None else f1[:, positive]
