"""Parameter counts and output shapes worked out by hand, and a network added in one line."""

from typing import Any

import pytest

from cnn import architectures
from cnn.architectures import ARCHITECTURES, architecture_digest, require_architecture, require_side, smallest_side
from cnn.backend import mx
from cnn.errors import UserError
from cnn.networks import initialise


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
def test_networks_have_the_papers_layers(name: str, expected: int) -> None:
    net = initialise(ARCHITECTURES[name](10), 32, [mx.cpu()], seed=0)
    assert net(mx.nd.zeros((3, 3, 32, 32))).shape == (3, 10)
    assert sum(parameter.data().size for parameter in net.collect_params().values()) == expected


#: VGG halves four times: 16 → 8 → 4 → 2 → 1. AlexNet pads by half of each kernel, so it takes anything. SqueezeNet
#: needs 3 px before its third pooling of 3 px: 3 ← 6 ← 12 (ceil(x / 2) each) ← (12 - 1) * 2 + 3 = 25
@pytest.mark.parametrize(("name", "side"), [("alexnet", 1), ("vgg", 16), ("squeezenet", 25)])
def test_pictures_that_are_too_small_are_refused(name: str, side: int) -> None:
    assert smallest_side(name) == side
    require_side(name, side)
    initialise(ARCHITECTURES[name](2), side, [mx.cpu()], seed=0)
    if side > 1:
        with pytest.raises(UserError, match=rf"too small for {name}.* {side} × {side} px"):
            require_side(name, side - 1)


def test_the_smallest_side_of_an_added_network_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def lenet(classes: int) -> object:
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Conv2D(6, 5), mx.gluon.nn.MaxPool2D(2, 2), mx.gluon.nn.Dense(classes))
        return net

    monkeypatch.setitem(ARCHITECTURES, "lenet", lenet)
    assert smallest_side("lenet") == 6
    monkeypatch.setattr(architectures, "LARGEST_SIDE", 5)
    with pytest.raises(UserError, match="No side of up to 5 px was found that lenet takes"):
        require_side("lenet", 5)


def test_a_network_for_one_side_only_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def rigid(classes: int) -> object:
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Flatten(), mx.gluon.nn.Dense(classes, in_units=3 * 40 * 40))
        return net

    monkeypatch.setitem(ARCHITECTURES, "rigid", rigid)
    require_side("rigid", 40)
    with pytest.raises(UserError, match="rigid"):
        require_side("rigid", 41)


def test_a_network_that_cannot_be_exported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "plain", lambda classes: mx.gluon.nn.Sequential())
    with pytest.raises(ValueError, match="expected a HybridBlock, which can be exported, found Sequential"):
        require_architecture("plain")

    class Shaped(mx.gluon.HybridBlock):
        def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803  (Gluon's name)
            return x.reshape((x.shape[0], -1))

    monkeypatch.setitem(ARCHITECTURES, "shaped", lambda classes: Shaped())
    with pytest.raises(ValueError, match=r"cannot be exported as a graph \('Symbol' object has no attribute 'shape'\)"):
        require_architecture("shaped")


def test_the_digest_tells_networks_apart_and_not_when_they_were_made() -> None:
    digests = {name: architecture_digest(name) for name in ARCHITECTURES}
    assert len(set(digests.values())) == len(ARCHITECTURES)
    assert {name: architecture_digest(name) for name in reversed(ARCHITECTURES)} == digests


def test_the_digest_is_of_every_setting_of_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_layer(layer: str, **options: Any) -> str:
        def build(classes: int) -> Any:
            net = mx.gluon.nn.HybridSequential()
            net.add(mx.gluon.nn.Conv2D(4, 3), getattr(mx.gluon.nn, layer)(**options), mx.gluon.nn.Dense(classes))
            return net

        monkeypatch.setitem(ARCHITECTURES, "one", build)
        return architecture_digest("one")

    layers: list[dict[str, Any]] = [
        {"layer": "Dropout", "rate": 0.1},
        {"layer": "Dropout", "rate": 0.2},
        {"layer": "Conv2D", "channels": 4, "kernel_size": 3},
        {"layer": "Conv2D", "channels": 4, "kernel_size": 3, "strides": 2},
        {"layer": "Conv2D", "channels": 4, "kernel_size": 3, "weight_initializer": "zeros"},
        {"layer": "MaxPool2D"},
        {"layer": "AvgPool2D"},
    ]
    assert len({with_layer(**layer) for layer in layers}) == len(layers)
