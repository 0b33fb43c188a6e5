"""The head of more images than fit in memory: its loss and its gradient are sums over blocks of images.

It is the head of `cnn.training.head`; but for each step of L-BFGS (Liu and Nocedal 1989, "On the limited memory BFGS
method for large scale optimization") the features are read anew, a block at a time.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cnn.support.parallel import ordered_map
from cnn.support.progress import track
from cnn.training.head import KEPT, MEASURED, MOST_ITERATIONS, Floats, Head, Indices, folds_of, unscaled
from cnn.training.hyperparameters import HeadStage

#: Reads the features (n, channels) of the images with these indices (n,).
Load = Callable[[Indices], NDArray[np.float32]]
_BLOCK = 8192  # images: of 512 channels, 32 MiB as the sums need them


def sample(labels: Indices, most: int, seed: int) -> Indices:
    """Indices of ``most`` random images, of each class its share and two at least; of all, if there are no more.

    >>> sample(np.array([0] * 8 + [1] * 2), most=5, seed=0).tolist()
    [2, 3, 4, 6, 8, 9]
    """
    share, rng = min(1.0, most / len(labels)), np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    return np.sort(np.concatenate([rng.choice(each, max(2, round(share * len(each))), False) for each in members]))


def complete(head: Head, load: Load, labels: Indices, stage: HeadStage, seed: int = 0) -> Head:
    """The head of all images, by the strength of one that was solved from a `sample`, whose ``path`` it keeps.

    Memory holds features of a block for each core, and the answers.

    Args:
        labels: (n,), 0, 1, …; each class has two images or more.
        seed: which images are in which fold.
    """
    from scipy.special import softmax

    def solve(chosen: Indices, tolerance: float) -> tuple[Floats, Floats]:
        return solve_in_blocks(head, load, labels, chosen, stage, tolerance)

    held_out, folds = np.zeros((len(labels), len(head.weight))), folds_of(labels, stage, seed)
    for others, asked in track(folds, "solving the head in blocks", len(folds), "fold"):
        weight, bias = solve(others, MEASURED)
        for block in _blocks(asked):
            held_out[block] = softmax(load(block) @ weight.T + bias, axis=1)
    weight, bias = solve(np.arange(len(labels)), KEPT)
    return replace(head, weight=weight, bias=bias, held_out=held_out)


def solve_in_blocks(
    start: Head, load: Load, labels: Indices, chosen: Indices, stage: HeadStage, tolerance: float = KEPT
) -> tuple[Floats, Floats]:
    """Weight (classes, channels) and bias (classes,) for the images ``chosen``, by the strength of ``start``."""
    from scipy.optimize import minimize
    from sklearn.preprocessing import StandardScaler

    blocks, scaler = _blocks(chosen), StandardScaler(copy=False)
    for values in ordered_map(load, blocks, ahead=4):
        scaler.partial_fit(values.astype(np.float64))  # means and deviations of parts, joined
    counts = np.bincount(labels[chosen]).astype(np.float64)
    shares = 1 / (len(counts) * counts) if stage.class_weights == "balanced" else np.full(len(counts), 1 / len(chosen))
    free = 1 if len(counts) == 2 else len(counts)  # of two classes, one has no logit

    def add(flat: Floats) -> tuple[float, Floats]:
        rows = flat.reshape(free, -1)
        penalized = np.c_[rows[:, :-1], np.zeros(free)]

        def add_block(block: Indices) -> tuple[float, Floats]:
            return _sums(rows, scaler.transform(load(block).astype(np.float64)), labels[block], shares)

        loss, gradient = start.strength / 2 * float((penalized**2).sum()), start.strength * penalized
        for part, slope in ordered_map(add_block, blocks):
            loss, gradient = loss + part, gradient + slope
        return loss, gradient.ravel()

    begin = np.c_[start.weight * scaler.scale_, start.bias + start.weight @ scaler.mean_]
    begin = begin[1:] - begin[:1] if free == 1 else begin
    options = {"maxiter": MOST_ITERATIONS, "gtol": tolerance, "ftol": 64 * np.finfo(float).eps, "maxls": 50}
    with threadpool_limits(1):
        found = minimize(add, begin.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(free, -1)
    return unscaled(scaler, found[:, :-1], found[:, -1])


def _sums(rows: Floats, values: Floats, labels: Indices, shares: Floats) -> tuple[float, Floats]:
    """Loss and gradient of a block.

    Args:
        rows: weights and bias (logits, channels + 1); the first of two classes has none.
        values: standardised features (n, channels).
        shares: weight of an image of each class in the loss, (classes,).
    """
    from scipy.special import log_softmax

    logits, each = np.zeros((len(values), len(shares))), np.arange(len(values))
    logits[:, -len(rows) :] = values @ rows[:, :-1].T + rows[:, -1]
    logs, weights = log_softmax(logits, axis=1), shares[labels]
    errors = np.exp(logs)
    errors[each, labels] -= 1
    errors = (errors * weights[:, None])[:, -len(rows) :]
    return -float(weights @ logs[each, labels]), np.c_[errors.T @ values, errors.sum(0)]


def _blocks(chosen: Indices) -> list[Indices]:
    return np.split(chosen, range(_BLOCK, len(chosen), _BLOCK))
