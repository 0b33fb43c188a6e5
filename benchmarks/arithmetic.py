"""How much arithmetic a network takes, and how long that alone would take at the speed of a matrix product."""

import timeit

import numpy as np

from cnn.networks.architectures import ARCHITECTURES
from cnn.networks.running import initialise, parameters
from cnn.support.backend import mx


def multiply_adds(architecture: str, side: int) -> list[int]:
    """Multiply-adds of each layer with weights for an image of ``side`` px, those with the padding left out."""
    net = initialise(ARCHITECTURES[architecture].build(10), side, seed=0, initializer="ones")
    maps, counts = mx.nd.ones((1, 3, side, side)), []
    for layer in net:
        maps = layer(mx.nd.ones_like(maps))  # inputs and weights are 1, so each sum is the number of its terms
        if parameters(layer):
            counts.append(int(maps.asnumpy().sum(dtype=np.float64)))
    return counts


def multiply_adds_per_second(size: int) -> float:
    """Speed of numpy's product of two matrices of ``size`` × ``size``, the best of three."""
    square = np.ones((size, size), np.float32)
    return size**3 / min(timeit.repeat(lambda: square @ square, number=1, repeat=3))


def arithmetic_alone(architecture: str, train: int, test: int, epochs: int, speed: float) -> str:
    """A sentence: the multiply-adds of the notebook's loop, and the seconds they take at ``speed`` of them a second.

    Each epoch trains on ``train`` images and evaluates these and ``test`` more. A training step is three times the
    arithmetic of a prediction (forward, gradients of inputs, gradients of weights), but in the first layer twice: its
    inputs need no gradients.
    """
    first, *others = multiply_adds(architecture, 32)
    training, prediction = 2 * first + 3 * sum(others), first + sum(others)
    total = epochs * (train * training + (train + test) * prediction)
    return f"{architecture} as written: {total / 1e12:.1f} × 10¹² multiply-adds, at that speed {total / speed:.0f} s"
