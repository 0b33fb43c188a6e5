"""What counts as novel, against scikit-learn's neighbours on the square roots of the features' shares."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from cnn.training.novelty import Novelty

SHAPE = (300, 40)


def gamma(seed: int, images: int = SHAPE[0]) -> NDArray[np.float32]:
    """Features of images, as a ReLU gives them: none below 0, many near it."""
    return np.random.default_rng(seed).gamma(0.5, size=(images, SHAPE[1])).astype(np.float32)


def hellinger(known: NDArray[np.float32], asked: NDArray[np.float32], rank: int) -> NDArray[np.float64]:
    """Hellinger distance of each image from its neighbour of this rank (0: the nearest)."""
    known, asked = (np.sqrt(each / each.sum(1, keepdims=True)) for each in (known, asked))
    distances, _ = NearestNeighbors(n_neighbors=rank + 1).fit(known).kneighbors(asked)
    return distances[:, rank] / np.sqrt(2)


def test_distance_is_that_of_the_nearest() -> None:
    known, asked = gamma(0), gamma(1)
    np.testing.assert_allclose(Novelty.fit(known).distances(asked), hellinger(known, asked, 0), atol=1e-3)


def test_one_training_image_in_a_hundred_is_farther_from_the_others_than_the_limit() -> None:
    known = gamma(0)
    own = hellinger(known, known, 1)  # the nearest is the image itself
    assert (
        (own > Novelty.fit(known).limit + 1e-3).sum()
        <= SHAPE[0] // 100
        <= (own > Novelty.fit(known).limit - 1e-3).sum()
    )


def test_of_few_training_images_none_is_novel_beside_the_others() -> None:
    known = gamma(0, images=20)
    assert Novelty.fit(known).limit == pytest.approx(hellinger(known, known, 1).max(), abs=1e-3)


@given(seed=st.integers(0, 99), factor=st.floats(1e-3, 1e3))
def test_scale_does_not_matter_and_known_images_are_not_novel(seed: int, factor: float) -> None:
    novelty = Novelty.fit(gamma(0))
    assert not novelty.is_novel(np.float32(factor) * gamma(0)).any()
    other = gamma(seed)
    np.testing.assert_allclose(novelty.distances(np.float32(factor) * other), novelty.distances(other), atol=1e-3)


def test_what_shares_no_feature_or_has_none_is_novel() -> None:
    known = gamma(0)
    known[:, -1] = 0
    alone = np.eye(SHAPE[1], dtype=np.float32)[-1:]
    assert Novelty.fit(known).is_novel(np.concatenate([alone, 0 * alone])).all()


def test_file_is_small_and_says_the_same(tmp_path: Path) -> None:
    novelty = Novelty.fit(np.tile(gamma(0), (10, 20)))  # 3,000 images of 800 features
    novelty.save(tmp_path / "novelty.npz")
    asked = np.tile(gamma(1), 20)
    assert (tmp_path / "novelty.npz").stat().st_size < 2.2e6
    np.testing.assert_array_equal(Novelty.load(tmp_path / "novelty.npz").distances(asked), novelty.distances(asked))
