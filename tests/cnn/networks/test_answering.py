"""Networks that answer, run by onnxruntime, against the plain networks, run by MXNet, and numpy."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from cnn.data.images import Preprocessing
from cnn.networks.answering import OUTPUTS, answering
from cnn.networks.architectures import NetworkConfig
from cnn.networks.exporting import export_onnx
from cnn.networks.initializers import make_initializer
from cnn.networks.running import initialise, parameters, with_parameters
from cnn.networks.sessions import Session
from cnn.support.backend import Network, mx

SIDE = 64


def by_position(net: Network, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the linear layer makes of the last maps at each position, (n, classes, height, width)."""
    weight, bias = (values for name, values in parameters(net).items() if name.startswith("output."))
    maps = net.features(mx.nd.array(images)).asnumpy()
    outputs = np.einsum("kc,nchw->nkhw", weight.reshape(len(weight), -1), maps) + bias[:, None, None]
    has_relu = any(isinstance(layer, mx.gluon.nn.Activation) for layer in net.output)
    return np.maximum(0, outputs) if has_relu else outputs


def assert_close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    scale = np.abs(expected).max()
    assert scale > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("architecture", "mirrored_mean"),
    [("squeezenet", False), ("squeezenet", True), ("mobilenet_v2", True), ("resnet18_v2", True)],
)
def test_positions_add_up_to_the_answer(architecture: str, mirrored_mean: bool, tmp_path: Path) -> None:
    preprocessing = Preprocessing.whole(SIDE)
    config = NetworkConfig(architecture=architecture, preprocessing=preprocessing, mirrored_mean=mirrored_mean)
    net = initialise(config.build(3), SIDE, 0, make_initializer("he"))
    images = np.random.default_rng(0).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)

    explaining = answering(config, 3, parameters(net), temperature=2, explains=True)
    export_onnx(explaining, tmp_path / "explaining.onnx", SIDE, OUTPUTS)
    session = Session(tmp_path / "explaining.onnx")
    assert session.names == OUTPUTS
    ((probabilities, features, activations),) = session.all_outputs([images])

    logits = with_parameters(config, 3, parameters(net))(mx.nd.array(images)).asnumpy()
    assert_close(probabilities, softmax(logits / 2, 1))
    assert_close(features, net.features(mx.nd.array(images)).asnumpy().mean((2, 3)))
    assert_close(activations.mean((2, 3)), logits)
    own, mirrored = by_position(net, images), by_position(net, images[..., ::-1])[..., ::-1]
    assert_close(activations, (own + mirrored) / 2 if mirrored_mean else own)
