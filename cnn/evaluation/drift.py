"""Drift: how new images differ from those that a network learnt from."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating]

_ENOUGH = (64, 64)  # px, of which the mean grey value is taken
_PERMUTATIONS = 999


@dataclass(frozen=True)
class Drift:
    """How new images differ from those that a published version, ``since``, was made from.

    Attributes:
        names: of the new images, one or more.
        novel: (n,), whether each is unlike everything that the version learnt from.
        distance, p: of the means of the features, see `mean_distance`.
        shares: share of each class, 0…1: before, and among the new images.
        looks: mean of each part of `look`, before and now, and the p value; empty if the version does not know them.
    """

    since: str
    names: tuple[str, ...]
    novel: NDArray[np.bool_]
    distance: float
    p: float
    shares: Mapping[str, tuple[float, float]]
    looks: Mapping[str, tuple[float, float, float]]

    @property
    def share(self) -> float:
        """The share of the new images that are novel, 0…1; of images that have not drifted, it is about .01."""
        return float(self.novel.mean())

    @property
    def example(self) -> str:
        """The name of the first novel image, empty if there is none."""
        return self.names[int(self.novel.argmax())] if self.novel.any() else ""

    @property
    def sentence(self) -> str:
        """All of it for people.

        >>> Drift("v0001", ("a.jpg", "b.jpg"), np.array([False, True]), 0.25, 0.03, {"cat": (0.5, 1.0)}, {}).sentence
        '2 images are new since v0001: 1 (50%) is unlike all that it learnt from, such as b.jpg; the means of the \
features differ by 0.250 (permutation test: p = 0.030); share of cat: 50% before, 100% now; \
brightness and size of its images are not known.'
        """
        count, total = int(self.novel.sum()), len(self.names)
        shares = (f"{name}: {before:.0%} before, {now:.0%} now" for name, (before, now) in self.shares.items())
        parts = [
            f"{total:,} image{'s are' if total > 1 else ' is'} new since {self.since}: {count:,} ({self.share:.0%}) ",
            f"{'is' if count == 1 else 'are'} unlike all that it learnt from",
            f", such as {self.example}" if count else "",
            f"; the means of the features differ by {self.distance:.3f} (permutation test: p = {self.p:.3f})",
            f"; share of {', '.join(shares)}",
            *(f"; mean {name}: {a:.0f} before, {b:.0f} now, p = {p:.3f}" for name, (a, b, p) in self.looks.items()),
            "." if self.looks else "; brightness and size of its images are not known.",
        ]
        return "".join(parts)


def mean_distance(before: Floats, now: Floats, seed: int = 0) -> tuple[float, float]:
    """The Euclidean distance of the means of two samples, (n, channels) and (m, channels), and its p value.

    The p value is the share of 999 permutations, and the samples as they are, whose distance is as large: how probable
    it is if both are drawn from the same images (Phipson and Smyth 2010, "Permutation p-values should never be zero").

    >>> mean_distance(np.zeros((8, 4)), np.ones((8, 4)))
    (2.0, 0.001)
    """
    both = np.concatenate([before, now]).astype(np.float64)
    weights = np.concatenate([np.full(len(before), -1 / len(before)), np.full(len(now), 1 / len(now))])
    rng, distance = np.random.default_rng(seed), float(np.linalg.norm(weights @ both))
    others = (np.linalg.norm(rng.permutation(weights) @ both) for _ in range(_PERMUTATIONS))
    exceeded = sum(each >= distance * (1 - 1e-9) for each in others)  # rounding makes no difference
    return distance, float((1 + exceeded) / (1 + _PERMUTATIONS))


def look(data: bytes) -> dict[str, float]:
    """How an encoded image looks: brightness (mean grey value, 0…255; of a JPEG at a fraction of its size) and size."""
    with Image.open(io.BytesIO(data)) as image:
        short_side = min(image.size)
        image.draft("L", _ENOUGH)
        brightness = float(np.asarray(image.convert("L"), np.float32).mean())
    return {"brightness": brightness, "shorter side in px": float(short_side)}
