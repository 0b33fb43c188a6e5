"""What a network starts from: filters that whiten the pictures' patches, measured by MXNet's own convolution."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cnn.architectures import ARCHITECTURES
from cnn.backend import mx
from cnn.hyperparameters import FromScratch
from cnn.initializers import whitening_filters
from cnn.models import fresh_model
from cnn.networks import parameters


@pytest.fixture(scope="module")
def smooth() -> NDArray[np.float32]:
    """Pictures whose neighbouring values and colours are alike, as those of photos are: (300, 3, 24, 24)."""
    rough = np.random.default_rng(0).standard_normal((300, 3, 26, 26), np.float32).cumsum(2).cumsum(3)
    rough[:, 1:] += rough[:, :1]
    pictures = rough[..., 2:, 2:] - rough[..., :1, :1]
    return pictures / pictures.std()


def answers(pictures: NDArray[np.float32], filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a convolution with these filters gives for the patches that they were made from, (patches, filters)."""
    count, _, kernel, _ = filters.shape
    given = (mx.nd.array(values) for values in (pictures, filters, np.zeros(count)))
    places = {"kernel": (kernel, kernel), "stride": ((kernel + 1) // 2,) * 2, "pad": (kernel // 2,) * 2}
    found = mx.nd.Convolution(*given, num_filter=count, **places).asnumpy()
    return found.transpose(0, 2, 3, 1).reshape(-1, count)


@pytest.mark.parametrize(("kernel", "count", "pairs"), [(3, 16, 8), (5, 64, 32), (3, 64, 27)])
def test_answers_are_uncorrelated_and_of_one_size(
    smooth: NDArray[np.float32], kernel: int, count: int, pairs: int
) -> None:
    noisy = smooth + np.random.default_rng(1).normal(0, 0.2, smooth.shape).astype(np.float32)  # no direction is empty
    found = answers(noisy, whitening_filters(noisy, count, kernel))
    assert found.shape[1] == 2 * pairs
    half = found[:, :pairs]
    np.testing.assert_allclose(half.T @ half / len(half), 2 * np.eye(pairs), atol=0.02)
    np.testing.assert_allclose(found[:, pairs:], -half, atol=1e-4)


def test_a_direction_without_variance_is_not_blown_up(smooth: NDArray[np.float32]) -> None:
    grey = np.repeat(smooth[:, :1], 3, axis=1)
    found = answers(grey, whitening_filters(grey, 64, 3))
    assert np.sqrt((found**2).mean(0)).max() < 1.5
    assert np.isfinite(whitening_filters(np.zeros((2, 3, 8, 8), np.float32), 64, 3)).all()


@pytest.mark.parametrize("architecture", ["alexnet", "vgg", "squeezenet"])
def test_only_the_first_filters_depend_on_the_pictures(architecture: str, smooth: NDArray[np.float32]) -> None:
    start = {}
    for initializer in ("he", "whitening"):
        settings = FromScratch(architecture=architecture, initializer=initializer)
        start[initializer] = parameters(fresh_model(settings, 10, [mx.cpu()], 0, smooth).net)
    first = next(iter(start["he"]))
    different = [name for name in start["he"] if (start["he"][name] != start["whitening"][name]).any()]
    assert different == [first]
    filters = start["whitening"][first]
    expected = whitening_filters(smooth, len(filters), filters.shape[2])
    np.testing.assert_array_equal(filters[: len(expected)], expected)
    np.testing.assert_array_equal(filters[len(expected) :], start["he"][first][len(expected) :])


@pytest.mark.parametrize("layer", [mx.gluon.nn.Dense, lambda classes: mx.gluon.nn.Conv2D(classes, (3, 5))])
def test_a_network_that_begins_otherwise_starts_as_he_has_it(
    layer: Callable[[int], object], monkeypatch: pytest.MonkeyPatch, smooth: NDArray[np.float32]
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "other", layer)
    he, whitening = (
        fresh_model(FromScratch(architecture="other", initializer=initializer), 2, [mx.cpu()], 0, smooth).net
        for initializer in ("he", "whitening")
    )
    np.testing.assert_array_equal(he.weight.data().asnumpy(), whitening.weight.data().asnumpy())
