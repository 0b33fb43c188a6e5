"""What the parameters of a network that is trained from scratch start from."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cnn.backend import Network, mx, structural_parameters
from cnn.hyperparameters import Initializer

#: He's (He et al. 2015, https://arxiv.org/abs/1502.01852) keeps the size of what passes through a ReLU.
_HE = mx.init.Xavier("gaussian", "in", 2)
INITIALIZERS: dict[Initializer, mx.init.Initializer] = {
    "xavier": mx.init.Xavier(magnitude=2.24),
    "he": _HE,
    "whitening": _HE,  # then `whiten_first_layer`
}
#: Directions in which patches vary less than this (inputs vary by about 1) are taken as if they varied so much.
_LEAST_VARIANCE = 1e-3


def whitening_filters(pictures: NDArray[np.float32], count: int, kernel: int) -> NDArray[np.float32]:
    """Filters that answer to patches of the pictures without correlation, each with a root mean square of √2.

    They are the patches' principal directions, the most varying first, half of ``count`` if there are so many, and
    then each once more with its sign turned, because a ReLU lets only one sign through. Of √2 the ReLU leaves 1.

    Args:
        pictures: inputs of the network, (n, 3, height, width).

    Returns:
        (at most ``count``, 3, kernel, kernel).
    """
    border = kernel // 2
    padded = np.pad(pictures, ((0, 0), (0, 0), (border, border), (border, border)))  # as AlexNet's and VGG's do
    step = (kernel + 1) // 2  # patches that overlap more say little more
    windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::step, ::step]  # type: ignore[call-overload]  # numpy's stub
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, pictures.shape[1] * kernel**2)
    variances, directions = np.linalg.eigh(patches.T @ patches / len(patches))  # the least first
    scales = np.sqrt(2 / np.maximum(variances, _LEAST_VARIANCE))
    filters = (directions * scales).T[::-1][: count // 2].reshape(-1, pictures.shape[1], kernel, kernel)
    return np.concatenate([filters, -filters]).astype(np.float32)


def whiten_first_layer(net: Network, pictures: NDArray[np.float32]) -> None:
    """Set the first filters of a network that begins with a convolution, its kernel square, to whitening ones.

    What is learnt then starts from the colours and edges that there are, and each weighs the same (Page 2019, "How to
    train your ResNet 8"; Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.1). Another network stays as it is.
    """
    first = next(iter(structural_parameters(net).values()))
    kernel = first.shape[-1]
    if first.shape[1:] == (pictures.shape[1], kernel, kernel):
        values = first.data(first.list_ctx()[0]).asnumpy()
        filters = whitening_filters(pictures, len(values), kernel)
        values[: len(filters)] = filters
        first.set_data(mx.nd.array(values))
