"""What a network starts from: filters that whiten the images' patches, measured by MXNet's own convolution."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cnn.networks.architectures import ARCHITECTURES, Architecture
from cnn.networks.initializers import make_initializer, random_parameters, whitening_filters
from cnn.networks.running import parameters
from cnn.support.backend import mx
from cnn.training.hyperparameters import FromScratch
from cnn.training.scratch import scratch_model


@pytest.fixture(scope="module")
def smooth() -> NDArray[np.float32]:
    """Images whose neighbouring values and colours are alike, as those of photos are: (300, 3, 24, 24)."""
    rough = np.random.default_rng(0).standard_normal((300, 3, 26, 26), np.float32).cumsum(2).cumsum(3)
    rough[:, 1:] += rough[:, :1]
    images = rough[..., 2:, 2:] - rough[..., :1, :1]
    return images / images.std()


def responses(images: NDArray[np.float32], filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a convolution with these filters gives for the patches that they were made from, (patches, filters)."""
    count, _, kernel, _ = filters.shape
    arrays = (mx.nd.array(values) for values in (images, filters, np.zeros(count)))
    places = {"kernel": (kernel, kernel), "stride": ((kernel + 1) // 2,) * 2, "pad": (kernel // 2,) * 2}
    found = mx.nd.Convolution(*arrays, num_filter=count, **places).asnumpy()
    return found.transpose(0, 2, 3, 1).reshape(-1, count)


@pytest.mark.parametrize(("kernel", "count", "pairs"), [(3, 16, 8), (5, 64, 32), (3, 64, 27)])
def test_responses_are_uncorrelated_and_of_one_size(
    smooth: NDArray[np.float32], kernel: int, count: int, pairs: int
) -> None:
    noisy = smooth + np.random.default_rng(1).normal(0, 0.2, smooth.shape).astype(np.float32)  # no direction is empty
    found = responses(noisy, whitening_filters(noisy, count, kernel))
    assert found.shape[1] == 2 * pairs
    half = found[:, :pairs]
    np.testing.assert_allclose(half.T @ half / len(half), 2 * np.eye(pairs), atol=0.02)
    np.testing.assert_allclose(found[:, pairs:], -half, atol=1e-4)


def test_most_varying_directions_come_first(smooth: NDArray[np.float32]) -> None:
    few, all_of_them = (whitening_filters(smooth, count, 3) for count in (8, 54))
    np.testing.assert_array_equal(few[:4], all_of_them[:4])
    sizes = np.linalg.norm(all_of_them[:27].reshape(27, -1), axis=1)  # a direction that varies more is scaled less
    assert (np.diff(sizes) >= -1e-3 * sizes[1:]).all() and sizes[-1] > 3 * sizes[0]


def test_empty_direction_is_not_blown_up(smooth: NDArray[np.float32]) -> None:
    grey = np.repeat(smooth[:, :1], 3, axis=1)
    found = responses(grey, whitening_filters(grey, 64, 3))
    assert np.sqrt((found**2).mean(0)).max() < 1.5
    assert np.isfinite(whitening_filters(np.zeros((2, 3, 8, 8), np.float32), 64, 3)).all()


@pytest.mark.parametrize("architecture", ["alexnet", "vgg", "squeezenet"])
def test_only_the_first_filters_depend_on_the_images(architecture: str, smooth: NDArray[np.float32]) -> None:
    start = {}
    for initializer in ("he", "whitening"):
        stage = FromScratch(architecture=architecture, initializer=initializer)
        start[initializer] = parameters(scratch_model(stage, 10, smooth, seed=0).net)
    first = next(iter(start["he"]))
    different = [name for name in start["he"] if (start["he"][name] != start["whitening"][name]).any()]
    assert different == [first]
    filters = start["whitening"][first]
    expected = whitening_filters(smooth, len(filters), filters.shape[2])
    np.testing.assert_array_equal(filters[: len(expected)], expected)
    np.testing.assert_array_equal(filters[len(expected) :], start["he"][first][len(expected) :])


@pytest.mark.parametrize("layer", [mx.gluon.nn.Dense, lambda classes: mx.gluon.nn.Conv2D(classes, (3, 5))])
def test_other_first_layers_are_not_whitened(
    layer: Callable[[int], object], monkeypatch: pytest.MonkeyPatch, smooth: NDArray[np.float32]
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "other", Architecture(layer))
    he, whitening = (
        scratch_model(FromScratch(architecture="other", initializer=initializer), 2, smooth, seed=0).net
        for initializer in ("he", "whitening")
    )
    np.testing.assert_array_equal(he.weight.data().asnumpy(), whitening.weight.data().asnumpy())


def test_he_keeps_the_size_of_activations_and_xavier_is_the_notebooks() -> None:
    def draw(initializer: object) -> NDArray[np.float32]:
        layer = mx.gluon.nn.Dense(600, in_units=200)
        layer.initialize(initializer, force_reinit=True)
        return layer.weight.data().asnumpy()

    he, xavier = draw(make_initializer("he")), draw(make_initializer("xavier"))
    assert he.std() == pytest.approx(np.sqrt(2 / 200), rel=0.02) and np.abs(he).max() > 3 * he.std()  # normal
    bound = np.sqrt(2.24 / ((600 + 200) / 2))  # Xavier(magnitude=2.24): uniform, by the mean of both sides
    assert np.abs(xavier).max() == pytest.approx(bound, rel=1e-3)
    assert xavier.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


def test_random_features_respond_to_contrast_only() -> None:
    values = random_parameters(seed=1)
    for name, filters in values.items():
        if name.startswith("features") and name.endswith("weight"):
            np.testing.assert_allclose(filters.sum(axis=(1, 2, 3)), 0, atol=1e-3)
            inputs = filters[0].size
            expected = 1.2 * np.sqrt(2 / inputs) * np.sqrt(1 - 1 / inputs)  # He et al. 2015, without the mean
            assert filters.std() == pytest.approx(expected, rel=0.1), name
    again, other = random_parameters(seed=1), random_parameters(seed=2)
    assert all((again[name] == values[name]).all() for name in values)
    assert (other["features.0.weight"] != values["features.0.weight"]).any()
