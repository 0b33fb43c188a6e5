"""Random moves, mirror images and noise against plain numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cnn.data.images import Pixels
from cnn.training.augmentation import add_noise, mirror, shift

unhurried = settings(deadline=None)
SEEDS = st.integers(0, 2**31 - 1)
#: (n, 3, height, width)
IMAGES = st.tuples(st.integers(1, 4), st.just(3), st.integers(5, 8), st.integers(5, 8)).flatmap(
    lambda shape: arrays(np.uint8, shape)
)


def distinct(count: int, height: int, width: int) -> Pixels:
    """Images of which no two windows are alike."""
    return np.random.default_rng(0).integers(0, 256, (count, 3, height, width), np.uint8)


@unhurried
@given(IMAGES, st.integers(0, 4), SEEDS)
def test_moved_image_is_a_window_of_the_reflected_one(pixels: Pixels, reach: int, seed: int) -> None:
    height, width = pixels.shape[2:]
    moved = shift(pixels, reach, np.random.default_rng(seed))
    assert moved.shape == pixels.shape and moved.dtype == np.uint8
    for before, after in zip(pixels, moved, strict=True):
        padded = np.pad(before, ((0, 0), (reach, reach), (reach, reach)), "reflect")
        windows = [
            padded[:, down : down + height, right : right + width]
            for down in range(2 * reach + 1)
            for right in range(2 * reach + 1)
        ]
        assert any(np.array_equal(after, window) for window in windows)


def test_every_distance_is_equally_likely() -> None:
    one = distinct(1, 6, 7)
    moved = shift(np.repeat(one, 500, axis=0), 1, np.random.default_rng(0))
    padded = np.pad(one[0], ((0, 0), (1, 1), (1, 1)), "reflect")
    windows = [padded[:, down : down + 6, right : right + 7] for down in range(3) for right in range(3)]
    counts = [sum(np.array_equal(image, window) for image in moved) for window in windows]
    assert sum(counts) == 500
    assert min(counts) > 30  # 56 expected of each, standard deviation 7


@unhurried
@given(IMAGES, SEEDS)
def test_mirrored_image_is_itself_or_turned(pixels: Pixels, seed: int) -> None:
    for before, after in zip(pixels, mirror(pixels, np.random.default_rng(seed)), strict=True):
        assert np.array_equal(after, before) or np.array_equal(after, np.stack([np.fliplr(plane) for plane in before]))


def test_half_of_the_images_are_mirrored() -> None:
    pixels = distinct(1000, 2, 3)
    unchanged = (mirror(pixels, np.random.default_rng(0)) == pixels).all(axis=(1, 2, 3)).sum()
    assert 400 < unchanged < 600  # standard deviation 16


@unhurried
@given(arrays(np.float32, (5, 3, 4, 4), elements=st.floats(0, 1, width=32)), st.floats(0, 3), SEEDS)
def test_noise_depends_on_seed_and_number_only(values: NDArray[np.float32], deviation: float, seed: int) -> None:
    numbers = np.array([3, 0, 7, 7, 2])
    noisy = add_noise(values, deviation, seed, numbers)
    assert noisy.dtype == np.float32 and noisy.min() >= 0 and noisy.max() <= 1
    order = [4, 1, 3]
    assert np.array_equal(add_noise(values[order], deviation, seed, numbers[order]), noisy[order])
    if not deviation:
        assert np.array_equal(noisy, values)


def test_noise_is_normal_and_independent() -> None:
    grey = np.full((40, 3, 16, 16), 0.5, np.float32)
    noise = (add_noise(grey, 0.01, 1, np.arange(40)) - 0.5) / 0.01
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert np.mean(np.abs(noise) < 1) == pytest.approx(0.683, abs=0.02)
    correlations = np.corrcoef(np.concatenate([noise, (add_noise(grey, 0.01, 2, np.arange(40)) - 0.5)]).reshape(80, -1))
    assert np.abs(correlations - np.eye(80)).max() < 0.25  # standard deviation 1/√768 = .036
