"""Initializers: what the parameters of a network start from that was not pretrained."""

from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cnn.data.images import CROP
from cnn.networks.architectures import PRETRAINED, NetworkConfig
from cnn.networks.running import initialise, parameters
from cnn.support.backend import Network, mx, structural_parameters

#: ``xavier``: the notebook's, of magnitude 2.24; ``he``: keeps the size of what passes through a ReLU (He et al. 2015,
#: https://arxiv.org/abs/1502.01852); ``whitening``: He's, and then `whiten_first_layer`.
Initializer = Literal["xavier", "he", "whitening"]

#: Directions in which patches vary less than this (inputs vary by about 1) count as if they varied so much.
_LEAST_VARIANCE = 1e-3


def make_initializer(name: Initializer) -> Any:
    """MXNet's initializer of this name."""
    return mx.init.Xavier(magnitude=2.24) if name == "xavier" else mx.init.Xavier("gaussian", "in", 2)


def whitening_filters(images: NDArray[np.float32], count: int, kernel: int) -> NDArray[np.float32]:
    """Filters whose outputs for patches of the images are uncorrelated, each with a root mean square of √2.

    They are the patches' principal directions, the most varying first, half of ``count`` if there are so many, and
    then each once more with its sign turned, because a ReLU lets only one sign through. Of √2 the ReLU leaves 1.

    Args:
        images: inputs of the network, (n, 3, height, width).

    Returns:
        (at most ``count``, 3, kernel, kernel).
    """
    border = kernel // 2
    padded = np.pad(images, ((0, 0), (0, 0), (border, border), (border, border)))  # as AlexNet's and VGG's do
    step = (kernel + 1) // 2  # patches that overlap more add little
    windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::step, ::step]  # type: ignore[call-overload]  # numpy's stub
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * kernel**2)
    variances, directions = np.linalg.eigh(patches.T @ patches / len(patches))  # the least first
    scales = np.sqrt(2 / np.maximum(variances, _LEAST_VARIANCE))
    filters = (directions * scales).T[::-1][: count // 2].reshape(-1, images.shape[1], kernel, kernel)
    return np.concatenate([filters, -filters]).astype(np.float32)


def whiten_first_layer(net: Network, images: NDArray[np.float32]) -> None:
    """Set the first filters of a network that begins with a convolution, its kernel square, to whitening ones.

    Training then starts from the colours and edges that the images show, and each weighs the same (Page 2019, "How to
    train your ResNet 8"; Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.1). Another network stays as it is.
    """
    first = next(iter(structural_parameters(net).values()))
    kernel = first.shape[-1]
    if first.shape[1:] == (images.shape[1], kernel, kernel):
        values = first.data(first.list_ctx()[0]).asnumpy()
        filters = whitening_filters(images, len(values), kernel)
        values[: len(filters)] = filters
        first.set_data(mx.nd.array(values))


def random_parameters(seed: int, network: NetworkConfig = PRETRAINED) -> dict[str, NDArray[np.float32]]:
    """A backbone's parameters without any training: the baseline for pretrained ones.

    Drawn so that activations keep their size (He et al. 2015); each filter of the features then sums to 0, so that it
    responds to contrast and not to brightness.
    """
    net = initialise(network.build(1000), CROP, seed, mx.init.MSRAPrelu(factor_type="in", slope=0))
    values = parameters(net)
    for name, filters in values.items():
        if name.startswith("features") and filters.ndim == 4:
            values[name] = 1.2 * (filters - filters.mean(axis=(1, 2, 3), keepdims=True))
    return values
