"""Augmentation: random changes of small training images: moved, mirrored, made noisy."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cnn.data.images import Pixels


def shift(pixels: Pixels, reach: int, rng: np.random.Generator) -> Pixels:
    """Move each image of (n, 3, height, width) by up to ``reach`` px each way; what comes in is its mirror image."""
    padded = np.pad(pixels, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="reflect")
    windows = sliding_window_view(padded, pixels.shape[2:], axis=(2, 3))  # type: ignore[call-overload]  # numpy's stub
    down, right = rng.integers(0, 2 * reach + 1, (2, len(pixels)))
    return windows[np.arange(len(pixels)), :, down, right]


def mirror(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Mirror each image of (n, 3, height, width) left to right half of the time."""
    mirrored = rng.random(len(pixels)) < 0.5
    return np.where(mirrored[:, None, None, None], pixels[..., ::-1], pixels)


def add_noise(
    values: NDArray[np.float32], deviation: float, seed: int, numbers: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Add normal noise to values 0…1 and cut them to 0…1 again (notebook, ``train_transformer``).

    An image's noise depends on ``seed`` and its number only: the notebook, too, draws it once for all epochs.

    >>> once, again = (add_noise(np.zeros((1, 2), np.float32), 0.1, 7, np.array([n])) for n in (3, 3))
    >>> bool((once == again).all())
    True
    """
    noisy = np.empty_like(values)
    for image, plain, number in zip(noisy, values, numbers, strict=True):
        noise = np.random.default_rng([seed, int(number)]).standard_normal(plain.shape, np.float32)
        np.clip(plain + deviation * noise, 0, 1, out=image)
    return noisy
