"""What is wrong with labelled images: labels, near duplicates, images unlike their class, flawed images, small classes.

All functions are pure, over features, labels, probabilities and images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn.data.images import CROP, resize_short
from cnn.data.similarity import DifferenceHash, Item, near_siblings

Floats = NDArray[np.floating]
Indices = NDArray[np.int64]

#: Cosine of two images' standardised features from which they are near duplicates. Of the Kaggle hot-dog photos, the
#: least alike of the five duplicate pairs have .958, the most alike of all others .808.
NEAR_COSINE = 0.9
#: From this robust z-score a value is an outlier (Iglewicz and Hoaglin 1993, "How to detect and handle outliers").
OUTLIER_Z = 3.5
#: What counts as a flaw; found by looking at the most extreme of the Kaggle hot-dog photos. Grey values are 0…255.
DARK, BRIGHT, PLAIN, BLURRED = 35.0, 200.0, 8.0, 40.0
#: Relative to the variance of the grey values; above it an image is not blurred, but has little contrast.
_BLURRED_SHARE = 0.02
#: The shorter side in px below which an image is tiny: the network sees it enlarged to more than twice that.
TINY = CROP // 2
#: A class with less than this share of the images of the largest is small: of two classes, less than 20 % of all.
SMALL_SHARE = 0.25

_NEIGHBOURS = 10
_COSINES = 1 << 23  # at a time: 32 MiB


def suspect_labels(labels: Indices, probabilities: Floats) -> Indices:
    """The class that is suggested for each image, (n,): another one than its label for suspects, else its label.

    Confident learning: an image is a suspect if a class other than its label is the most probable of those whose
    probability reaches the mean that it has among the images labelled so (Northcutt, Jiang and Chuang 2021,
    "Confident learning: estimating uncertainty in dataset labels", section 3.1).

    Args:
        labels: (n,), 0, 1, …; each class has an image.
        probabilities: (n, classes), of each image by a model that was trained without it.

    >>> suspect_labels(np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])).tolist()
    [0, 1, 1, 1]
    """
    thresholds = [probabilities[labels == number, number].mean() for number in range(probabilities.shape[1])]
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    return np.where(confident.max(1) >= 0, confident.argmax(1), labels)


def rank_labels(labels: Indices, probabilities: Floats) -> Indices:
    """Numbers of the images, (n,), most suspicious first: suspects, then the others, by the probability of the label.

    Takes what `suspect_labels` takes.

    >>> rank_labels(np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])).tolist()
    [1, 3, 2, 0]
    """
    own = probabilities[np.arange(len(labels)), labels]
    return np.lexsort((own, suspect_labels(labels, probabilities) == labels))


def duplicate_groups(
    features: Floats, hashes: Sequence[DifferenceHash], ids: Sequence[str]
) -> tuple[Indices, NDArray[np.float32]]:
    """The group of near duplicates of each image, 1, 2, … (0: none), and the cosine to the most similar one, both (n,).

    Two images are in one group if their ids are the same, if `near_siblings` finds their hashes alike, or if the cosine
    of their standardised features, (n, channels), is `NEAR_COSINE` or more, of which each image counts the first; and
    so are all that they lead to. Of images whose features are nan only ids and hashes are compared, and the cosine is
    nan. The time grows with the square of n: 20,000 images take half a minute of a core.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count, first = len(ids), dict[str, int]()
    pairs = near_siblings([Item(each, str(number), str(number)) for number, each in enumerate(hashes)])
    pairs += [(number, first.setdefault(image_id, number)) for number, image_id in enumerate(ids)]
    units, nearest = _standardise(features), np.zeros(count, np.float32)
    units /= np.maximum(np.sqrt(np.einsum("nc,nc->n", units, units)), np.finfo(np.float32).tiny)[:, None]
    together = max(1, _COSINES // max(1, count))
    for start in range(0, count, together):
        cosines = units[start : start + together] @ units.T
        np.fill_diagonal(cosines[:, start:], -1)
        nearest[start : start + together] = highest = cosines.max(1)
        near = np.flatnonzero(highest >= NEAR_COSINE).tolist()
        pairs += [(start + row, int((cosines[row] >= NEAR_COSINE).argmax())) for row in near]
    rows, others = np.array(pairs, np.int64).reshape(-1, 2).T
    component = connected_components(coo_array((np.ones(len(rows)), (rows, others)), (count, count)), False)[1]
    repeated = np.flatnonzero(np.bincount(component) > 1)
    groups = np.zeros(component.max(initial=-1) + 1, np.int64)
    groups[repeated] = np.arange(1, len(repeated) + 1)
    return groups[component], np.where(_is_known(features), nearest, np.nan)


def outlier_scores(features: Floats, labels: Indices) -> Floats:
    """How far each image is from the others of its class, as a robust z-score, (n,); see `OUTLIER_Z`.

    It is the logarithm of the mean distance to the ten nearest images of the class (Ramaswamy, Rastogi and Shim 2000,
    "Efficient algorithms for mining outliers from large data sets") between standardised features, (n, channels), less
    its median in the class, in units of 1.4826 times the median absolute deviation. It is 0 where the features
    are nan.
    """
    from sklearn.neighbors import NearestNeighbors

    values, scores, known = _standardise(features), np.zeros(len(labels)), _is_known(features)
    for number in np.unique(labels):
        chosen = np.flatnonzero((labels == number) & known)
        neighbours = min(_NEIGHBOURS, len(chosen) - 1)
        if neighbours < 1:
            continue
        nearest = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(values[chosen])
        distances = nearest.kneighbors()[0].mean(1)  # without the image itself
        logs = np.log(np.maximum(distances, np.finfo(np.float32).eps))
        deviations = logs - np.median(logs)
        spread = 1.4826 * np.median(abs(deviations))
        scores[chosen] = deviations / spread if spread else 0
    return scores


def _standardise(features: Floats) -> NDArray[np.float32]:
    """Features (n, channels) with mean 0 and deviation 1 of each channel; 0 where all are the same, or nan."""
    known = features[_is_known(features)]
    means, deviations = known.mean(0), known.std(0)
    del known  # it may be as large as the rest
    scaled = features - means
    scaled /= np.where(deviations > 0, deviations, 1)
    return np.nan_to_num(scaled, copy=False).astype(np.float32, copy=False)


def _is_known(features: Floats) -> NDArray[np.bool_]:
    return ~np.isnan(features[:, 0])


@dataclass(frozen=True)
class Appearance:
    """How an image looks, from its grey values, 0…255, with the shorter side resized to 256 px.

    Attributes:
        brightness, contrast: their mean and standard deviation.
        sharpness: the variance of their Laplacian (Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield
            microscopy").
        short_side: of the image as it is kept, px.
    """

    brightness: float
    contrast: float
    sharpness: float
    short_side: int

    @classmethod
    def of(cls, image: Image.Image) -> "Appearance":
        """The appearance of an image, RGB or grey.

        >>> Appearance.of(Image.new("RGB", (300, 400), "white"))
        Appearance(brightness=255.0, contrast=0.0, sharpness=0.0, short_side=300)
        """
        from scipy.ndimage import laplace

        grey = np.asarray(resize_short(image.convert("L")), np.float32)
        return cls(float(grey.mean()), float(grey.std()), float(laplace(grey).var()), min(image.size))

    def flaws(self) -> dict[str, float]:
        """What is wrong with the image, in a word, with the value that says so.

        >>> Appearance(brightness=20, contrast=4, sharpness=1, short_side=500).flaws()
        {'one colour': 4, 'dark': 20}
        """
        found = {
            "one colour": (self.contrast < PLAIN, self.contrast),
            "dark": (self.brightness < DARK, self.brightness),
            "bright": (self.brightness > BRIGHT, self.brightness),
            "blurred": (self.sharpness < min(BLURRED, _BLURRED_SHARE * self.contrast**2), self.sharpness),
            "tiny": (self.short_side < TINY, float(self.short_side)),
        }
        return {flaw: value for flaw, (is_found, value) in found.items() if is_found}


def small_classes(counts: Mapping[str, int]) -> dict[str, int]:
    """Classes that have far fewer images than the largest; see `SMALL_SHARE`.

    >>> small_classes({"cat": 100, "dog": 24, "cow": 25})
    {'dog': 24}
    """
    return {name: count for name, count in counts.items() if count < SMALL_SHARE * max(counts.values())}
