"""Parameter counts and output shapes worked out by hand, and which networks and images are refused."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cnn.data.images import PHOTO, Preprocessing
from cnn.networks.architectures import ARCHITECTURES, PRETRAINED, NetworkConfig, require_exportable
from cnn.networks.initializers import make_initializer
from cnn.networks.running import initialise, parameters
from cnn.support.backend import mx
from cnn.support.errors import UserError
from cnn.support.fingerprint import fingerprint_function


def convolution(inputs: int, outputs: int, kernel: int) -> int:
    return outputs * (inputs * kernel * kernel + 1)


def dense(inputs: int, outputs: int) -> int:
    return outputs * (inputs + 1)


def fire(inputs: int, squeezed: int) -> int:
    """SqueezeNet's module: 1×1 down to ``squeezed``, then 1×1 and 3×3 up to four times that each."""
    expanded = convolution(squeezed, 4 * squeezed, 1) + convolution(squeezed, 4 * squeezed, 3)
    return convolution(inputs, squeezed, 1) + expanded


#: 32 px → 8 (stride 4) → 4 → 2 → 1: what is flattened is 256 × 1 × 1
ALEXNET = (
    convolution(3, 96, 11) + convolution(96, 192, 5) + convolution(192, 384, 3) + convolution(384, 384, 3)
    + convolution(384, 256, 3) + dense(256, 4096) + dense(4096, 4096) + dense(4096, 10)
)  # fmt: skip
#: 32 px → 16 → 8 → 4 → 2: what is flattened is 512 × 2 × 2
VGG = (
    convolution(3, 64, 3) + convolution(64, 128, 3) + convolution(128, 256, 3) + convolution(256, 512, 3)
    + 2 * convolution(512, 512, 3) + dense(2048, 512) + dense(512, 512) + dense(512, 10)
)  # fmt: skip
SQUEEZENET = (
    convolution(3, 64, 3) + fire(64, 16) + fire(128, 16) + fire(128, 32) + fire(256, 32) + fire(256, 48)
    + fire(384, 48) + fire(384, 64) + fire(512, 64) + convolution(512, 10, 1)
)  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), [("alexnet", ALEXNET), ("vgg", VGG), ("squeezenet", SQUEEZENET)])
def test_layers_are_the_papers(name: str, expected: int) -> None:
    net = initialise(ARCHITECTURES[name].build(10), 32, seed=0)
    assert net(mx.nd.zeros((3, 3, 32, 32))).shape == (3, 10)
    assert sum(values.size for values in parameters(net).values()) == expected


def test_squeezenet_is_the_model_zoos() -> None:
    net = initialise(ARCHITECTURES["squeezenet"].build(3), PHOTO.crop, seed=0, initializer=make_initializer("he"))
    zoo = initialise(mx.gluon.model_zoo.vision.squeezenet1_1(classes=3), PHOTO.crop, seed=1)
    for (name, parameter), (same_name, values) in zip(
        zoo._collect_params_with_prefix().items(), parameters(net).items(), strict=True
    ):
        assert name == same_name
        parameter.set_data(mx.nd.array(values))
    images = mx.nd.array(np.random.default_rng(0).standard_normal((2, 3, 224, 224)))
    assert np.ptp(net(images).asnumpy()) > 1e-3
    np.testing.assert_allclose(net(images).asnumpy(), zoo(images).asnumpy(), rtol=1e-4, atol=1e-6)


#: VGG halves four times: 16 → 8 → 4 → 2 → 1. AlexNet pads by half of each kernel, so it takes anything. SqueezeNet
#: needs 3 px before its third pooling of 3 px: 3 ← 6 ← 12 (ceil(x / 2) each) ← (12 - 1) * 2 + 3 = 25
@pytest.mark.parametrize(("name", "side"), [("alexnet", 1), ("vgg", 16), ("squeezenet", 25)])
def test_too_small_images_are_refused(name: str, side: int) -> None:
    build = ARCHITECTURES[name].build
    config = NetworkConfig(architecture=name, preprocessing=Preprocessing.whole(side))
    require_exportable(config.build(2), name, side)
    assert initialise(build(2), side, seed=0)(mx.nd.zeros((1, 3, side, side))).shape == (1, 2)
    if side > 1:
        with pytest.raises(ValidationError, match=rf"too small for {name}; it takes {side} × {side} px or more"):
            NetworkConfig(architecture=name, preprocessing=Preprocessing.whole(side - 1))
        with pytest.raises(UserError, match=rf"{name}: it does not take images of {side - 1} × {side - 1} px"):
            require_exportable(build(2), name, side - 1)


def test_unknown_architecture_lists_the_choices() -> None:
    with pytest.raises(ValidationError, match="no architecture 'resnet'; choose from alexnet, vgg, squeezenet"):
        NetworkConfig(architecture="resnet", preprocessing=PHOTO)
    with pytest.raises(ValidationError, match="mirrored"):
        NetworkConfig(architecture="vgg", preprocessing=PHOTO, mirrored=True)  # type: ignore[call-arg]
    assert NetworkConfig(architecture="squeezenet", preprocessing=PHOTO, mirrored_mean=False) == PRETRAINED


def test_network_may_take_one_side_only() -> None:
    rigid = mx.gluon.nn.HybridSequential()
    rigid.add(mx.gluon.nn.Flatten(), mx.gluon.nn.Dense(2, in_units=3 * 40 * 40))
    require_exportable(rigid, "rigid", 40)
    with pytest.raises(UserError, match=r"rigid: it does not take images of 41 × 41 px"):
        require_exportable(rigid, "rigid", 41)


def test_unexportable_network_is_refused() -> None:
    class Shaped(mx.gluon.HybridBlock):
        def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803  (Gluon's name)
            return x.reshape((x.shape[0], -1))

    with pytest.raises(UserError, match="plain: expected a HybridBlock, which can be exported, found Sequential"):
        require_exportable(mx.gluon.nn.Sequential(), "plain", 32)
    with pytest.raises(UserError, match=r"cannot be exported as a graph \('Symbol' object has no attribute 'shape'\)"):
        require_exportable(Shaped(), "shaped", 32)


def test_architectures_have_fingerprints_of_their_own() -> None:
    def three(classes: int) -> Any:
        return mx.gluon.nn.Conv2D(classes, 3)

    def five(classes: int) -> Any:
        return mx.gluon.nn.Conv2D(classes, 5)

    built_in = [architecture.build for architecture in ARCHITECTURES.values()]
    found = {fingerprint_function(build) for build in (*built_in, three, five)}
    assert len(found) == len(ARCHITECTURES) + 2
    assert {fingerprint_function(build) for build in (*built_in, three, five)} == found
