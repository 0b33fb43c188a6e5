"""Batches: what every source of training inputs has in common (cached features, records, pixels)."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Inputs as an MXNet array on the CPU, and labels (n,).
Batch = tuple[Any, NDArray[np.int64]]


class Batches(Protocol):
    """A source of batches; the same epoch number gives the same batches."""

    steps_per_epoch: int

    def training(self, epoch: int) -> Iterator[Batch]:
        """Batches of equal size in random order."""

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Every image of a split once, not augmented."""


def in_order(count: int, size: int) -> list[NDArray[np.int64]]:
    """0…count-1 in groups of ``size``; the last may be smaller.

    >>> [group.tolist() for group in in_order(3, 2)]
    [[0, 1], [2]]
    """
    return np.split(np.arange(count), range(size, count, size))
