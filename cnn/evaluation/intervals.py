"""Intervals: how far a measured figure may be from the true one, by drawing images anew (the bootstrap)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cnn.training.metrics import Confusion

_DRAWS = 1000
_BOUNDS = (0.025, 0.975)
_WEIGHTS_AT_ONCE = 1 << 22
Floats = NDArray[np.floating]


def percentile_interval(drawn: Floats) -> tuple[float, float]:
    """The 95 % interval of a figure: percentiles of what it is for images that are drawn anew, (draws,)."""
    low, high = np.quantile(drawn, _BOUNDS)
    return float(low), float(high)


def error_interval(value: float, drawn: Floats, noise: Floats) -> tuple[float, float]:
    """The 95 % interval of a sum of absolute deviations, which noise increases, and drawing anew increases further.

    The triangle inequality gives the lower bound: without noise the sum is at least ``value`` less the noise.

    Args:
        value: the sum of deviations.
        drawn: what it is for images that are drawn anew, (draws,).
        noise: sums of the absolute differences between their deviations and those of the images, (draws,).

    >>> error_interval(0.5, np.array([0.5, 0.75]), np.array([0.125, 0.125]))[0]
    0.375
    """
    return max(0.0, value - float(np.quantile(noise, _BOUNDS[1]))), max(value, percentile_interval(drawn)[1])


def resample(labels: NDArray[np.int64], draws: int = _DRAWS, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """How often each image is drawn when as many of each class as there are are drawn anew: (n, some draws) at a time.

    Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13. The same labels and seed give the same.

    >>> next(resample(np.array([0, 1, 1]), draws=2)).sum(0).tolist()
    [3.0, 3.0]
    """
    rng, block = np.random.default_rng(seed), max(1, _WEIGHTS_AT_ONCE // max(1, len(labels)))
    for first in range(0, draws, block):
        weights = np.zeros((len(labels), min(block, draws - first)), np.float32)
        for each in np.unique(labels):
            own = np.flatnonzero(labels == each)
            weights[own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), weights.shape[1]).T
        yield weights


def draw_f1(confusion: Confusion, positive: int | None, seed: int = 0) -> NDArray[np.float64]:
    """F1 scores, (draws,), of images that are drawn anew as by `resample`, from a confusion matrix."""
    rng, counts = np.random.default_rng(seed), np.asarray(confusion)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    shares[counts.sum(1) == 0, 0] = 1  # a class without images: nothing is drawn of it
    draws = np.stack([rng.multinomial(row.sum(), share, _DRAWS) for row, share in zip(counts, shares, strict=True)], 1)
    hits = np.diagonal(draws, axis1=1, axis2=2)
    f1 = 2 * hits / np.maximum(1, draws.sum(2) + draws.sum(1))
    return f1.mean(1) if positive is None else f1[:, positive]
