"""Novelty: is an image unlike everything that a head was solved from?

Its features are compared with those of each training image by the Hellinger distance, whose square root makes weak
features count beside strong ones (Arandjelović and Zisserman 2012, "Three things everyone should know to improve object
retrieval"). The distance from the nearest is what counts (Sun et al. 2022, "Out-of-distribution detection with deep
nearest neighbors", https://arxiv.org/abs/2204.06507). docs/benchmarks.md compares it with other measures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cnn.support.files import atomic_file

#: Share of the training images that may be farther from the others than what counts as novel.
_FALSE_ALARMS = 0.01
_MOST_BYTES = 1 << 21  # of the training images that are kept: 2,048 of SqueezeNet's, 512 of ResNet-50's


def directions(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors whose products are the similarities (Bhattacharyya coefficients) of features, (n, channels).

    >>> directions(np.array([[1, 0, 3], [0, 0, 0]], np.float32)).tolist()
    [[0.5, 0.0, 0.8660253882408142], [0.0, 0.0, 0.0]]
    """
    sums = features.sum(1, keepdims=True)
    return np.sqrt(np.divide(features, sums, out=np.zeros_like(features), where=sums > 0))


@dataclass(frozen=True)
class Novelty:
    """What tells whether an image is novel.

    Attributes:
        known: of training images, (n, channels), the directions of their features, as 16 bits hold them.
        limit: the distance 0…1 from the nearest of them beyond which an image is novel.
    """

    known: NDArray[np.float32]
    limit: NDArray[np.float32]

    @classmethod
    def fit(cls, features: NDArray[np.float32], seed: int = 0) -> Self:
        """What is novel beside these images: it is farther from them than 99 % of them are from one another.

        Of fewer than 100 images, none is farther than the limit; of very many, a random part is kept.

        Args:
            features: (n, channels), two images or more, none below 0.
        """
        most = _MOST_BYTES // (2 * features.shape[1])
        if len(features) > most:
            features = features[np.sort(np.random.default_rng(seed).choice(len(features), most, replace=False))]
        known = directions(features).astype(np.float16).astype(np.float32)
        similarities = known @ known.T
        np.fill_diagonal(similarities, 0)  # leave one out
        own = np.sqrt(np.maximum(0, 1 - similarities.max(1)))
        return cls(known, np.quantile(own, 1 - _FALSE_ALARMS, method="higher"))

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Hellinger distance 0…1 of images from the nearest that is known, (n,), by their features (n, channels)."""
        # no BLAS for one image at a time: its other threads then spin for 20 ms on cores that the next image needs
        similarities = np.einsum("nc,kc->nk", directions(features), self.known)
        return np.sqrt(np.maximum(0, 1 - similarities.max(1)))

    def is_novel(self, features: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether images are unlike everything that is known, (n,), by their features (n, channels)."""
        return self.distances(features) > self.limit

    def save(self, path: Path) -> None:
        """Write it as ``.npz``."""
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, known=self.known.astype(np.float16), limit=self.limit)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["known"].astype(np.float32), arrays["limit"])
