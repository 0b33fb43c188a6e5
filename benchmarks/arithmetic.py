"""How much arithmetic a network is, and what that alone would take at the speed of a matrix product."""

import timeit

import numpy as np

from cnn.architectures import ARCHITECTURES
from cnn.backend import mx
from cnn.networks import initialise, parameters


def multiply_adds(architecture: str, side: int) -> list[int]:
    """What each layer with weights multiplies and adds for a picture of ``side`` px; with the padding there is none."""
    net = initialise(ARCHITECTURES[architecture](10), side, [mx.cpu()], seed=0, initializer="ones")
    maps, counts = mx.nd.ones((1, 3, side, side)), []
    for layer in net:
        maps = layer(mx.nd.ones_like(maps))  # of ones weighed by ones, each sum is how many there are
        if parameters(layer):
            counts.append(int(maps.asnumpy().sum(dtype=np.float64)))
    return counts


def multiply_adds_per_second(size: int = 4096) -> float:
    """What numpy's product of two matrices of ``size`` × ``size`` comes to, the best of three."""
    square = np.ones((size, size), np.float32)
    return size**3 / min(timeit.repeat(lambda: square @ square, number=1, repeat=3))


def arithmetic_alone(architecture: str, train: int, test: int, epochs: int, speed: float) -> str:
    """A sentence: how much arithmetic the notebook's loop is, and what that takes at ``speed`` multiply-adds a second.

    It learns from ``train`` pictures in each epoch and answers for these and for ``test`` more. To learn from a picture
    takes three times what it takes to answer: forward, and back to inputs and to weights, but in the first layer not to
    inputs.
    """
    first, *others = multiply_adds(architecture, 32)
    learning, answering = 2 * first + 3 * sum(others), first + sum(others)
    total = epochs * (train * learning + (train + test) * answering)
    return f"{architecture} as written: {total / 1e12:.1f} × 10¹² multiply-adds, at that speed {total / speed:.0f} s"
