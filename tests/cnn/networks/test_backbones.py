"""Backbones compute what the model zoo's networks compute, and their weights are read under every name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cnn.data.images import PHOTO, center_view, to_tensor
from cnn.networks.architectures import BACKBONES, Architecture, NetworkConfig, pretrained_network, require_exportable
from cnn.networks.initializers import random_parameters
from cnn.networks.running import Parameters, Runner, initialise, parameters, set_parameters
from cnn.networks.weights import read_weights
from cnn.support.backend import Network, mx
from cnn.support.errors import UserError

#: What Gluon calls each, and how many tensors its network has (a convolution 1 or 2, a batch normalisation 4).
ZOO: dict[str, tuple[str, int]] = {
    "squeezenet1_1": ("squeezenet1_1", 26 * 2),
    "mobilenetv2_1.0": ("mobilenet_v2_1_0", 54 + 53 * 4),
    "resnet18_v2": ("resnet18_v2", 20 + 19 * 4 + 2),
    "resnet50_v2": ("resnet50_v2", 53 + 51 * 4 + 2),
}
each_backbone = pytest.mark.parametrize("backbone", ZOO)
#: ResNet-50 takes as long as the others together, and its layers are called like ResNet-18's.
each_small_backbone = pytest.mark.parametrize(
    "backbone", [*list(ZOO)[:3], pytest.param("resnet50_v2", marks=pytest.mark.long)]
)


def make_zoo(backbone: str, classes: int = 3, prefix: str | None = None) -> Network:
    """The model zoo's own network, its numbers random and its batch normalisations unlike any default."""
    net = getattr(mx.gluon.model_zoo.vision, ZOO[backbone][0])(classes=classes, prefix=prefix)
    initialise(net, PHOTO.crop, 1, mx.init.MSRAPrelu(factor_type="in", slope=0))
    rng = np.random.default_rng(1)
    for name, parameter in net.collect_params().items():
        if name.endswith(("gamma", "beta", "running_mean", "running_var", "bias")):
            low, high = (0.5, 1.5) if name.endswith(("gamma", "var")) else (-0.2, 0.2)
            parameter.set_data(mx.nd.array(rng.uniform(low, high, parameter.shape)))
    return net


def architecture(backbone: str) -> str:
    return pretrained_network(backbone).architecture


def embedding(net: Network, weights: Parameters) -> Network:
    """Features and their mean over positions, as `cnn.training.features` takes them."""
    set_parameters(initialise(net, PHOTO.crop, 0), weights, prefix="features")
    block = mx.gluon.nn.HybridSequential()
    block.add(net.features, mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Flatten())
    return block


def images(count: int = 2) -> Any:
    return mx.nd.array(np.random.default_rng(0).standard_normal((count, 3, PHOTO.crop, PHOTO.crop)))


def assert_near(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """With random numbers in fifty layers, rounding grows to hundredths of the largest value."""
    assert np.ptp(expected) > 1e-2
    np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())


@each_backbone
def test_weights_of_the_zoo_compute_the_same(backbone: str, tmp_path: Path) -> None:
    zoo = make_zoo(backbone, prefix="anybody4_")
    zoo.collect_params().save(str(tmp_path / "flat.params"))
    weights = read_weights(tmp_path / "flat.params", architecture(backbone))
    assert len(weights) == ZOO[backbone][1]
    net = initialise(BACKBONES[backbone].build(3), PHOTO.crop, 0)
    none = {"output.1.bias": np.zeros(3, np.float32)}  # the zoo's MobileNetV2 has none
    set_parameters(net, none | weights)
    found, expected = net(images()).asnumpy(), zoo(images()).asnumpy()
    assert_near(found, expected)
    assert net.features(images()).ndim == 4
    require_exportable(net, backbone, PHOTO.crop)


@each_small_backbone
def test_onnx_export_of_the_zoo_is_read(backbone: str, tmp_path: Path) -> None:
    """As in the ONNX zoo: Gluon's flat names, and shapes among the weights."""
    zoo = make_zoo(backbone)
    zoo.hybridize()
    zoo(images(1))
    zoo.export(str(tmp_path / "zoo"))
    files = (str(tmp_path / "zoo-symbol.json"), str(tmp_path / "zoo-0000.params"))
    mx.onnx.export_model(*files, [(1, 3, PHOTO.crop, PHOTO.crop)], np.float32, str(tmp_path / "zoo.onnx"))
    for file in ("zoo.onnx", "zoo-0000.params"):
        weights = read_weights(tmp_path / file, architecture(backbone))
        block = embedding(BACKBONES[backbone].build(2), weights)
        expected = zoo.features(images()).asnumpy()
        expected = expected.reshape(*expected.shape[:2], -1).mean(2)
        assert_near(block(images()).asnumpy(), expected)


@each_small_backbone
def test_features_run_the_same_without_mxnet(backbone: str) -> None:
    normalisation = {name: values for name, values in parameters(make_zoo(backbone)).items() if values.ndim == 1}
    weights = random_parameters(1, pretrained_network(backbone)) | normalisation
    block = embedding(BACKBONES[backbone].build(2), weights)
    expected = block(images()).asnumpy()
    assert np.isfinite(expected).all()
    (found,) = Runner(block, PHOTO.crop)([images().asnumpy()])
    assert_near(found, expected)


@each_backbone
def test_last_layer_may_be_missing_and_no_other(backbone: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    flat = {name: parameter.data().asnumpy() for name, parameter in make_zoo(backbone).collect_params().items()}
    whole = len(read_weights_of(flat, path, backbone))
    last = [name for name in flat if name.endswith(("_pred_weight", "_dense0_weight", "_dense0_bias"))]
    last = last or [name for name in flat if "conv25_" in name]
    features = {name: values for name, values in flat.items() if name not in last}
    assert len(read_weights_of(features, path, backbone)) == whole - len(last)
    lost = list(features)[len(features) // 2]
    with pytest.raises(UserError, match=rf"expected \d+ tensors, found {len(features) - 1} and not this one"):
        read_weights_of({name: values for name, values in features.items() if name != lost}, path, backbone)
    other = next(each for each in ZOO if each != backbone)
    with pytest.raises(UserError, match=f"with the weights of {architecture(other)}"):
        read_weights_of(flat, path, other)


def read_weights_of(tensors: Parameters, path: Path, backbone: str) -> Parameters:
    np.savez(path, **tensors)
    return read_weights(path, architecture(backbone))


@pytest.mark.parametrize("backbone", [each for each in ZOO if each != "squeezenet1_1"])
def test_smallest_images(backbone: str) -> None:
    net = initialise(BACKBONES[backbone].build(2), 1, 0)
    assert net(mx.nd.zeros((1, 3, 1, 1))).shape == (1, 2)


def tiny(classes: int) -> Network:
    """A backbone that somebody adds."""
    nn = mx.gluon.nn
    net = nn.HybridSequential()
    with net.name_scope():
        net.features, net.output = nn.HybridSequential(prefix="features_"), nn.HybridSequential(prefix="output_")
        with net.features.name_scope():
            net.features.add(nn.Conv2D(4, 3, strides=2), nn.BatchNorm(), nn.Activation("relu"))
        with net.output.name_scope():
            net.output.add(nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(classes))
    return net


def test_adding_a_backbone_takes_a_function_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", Architecture(tiny))
    assert pretrained_network("tiny") == NetworkConfig(architecture="tiny", preprocessing=PHOTO)
    source = initialise(tiny(7), PHOTO.crop, 0)
    source.collect_params().save(str(tmp_path / "tiny.params"))
    weights = read_weights(tmp_path / "tiny.params", "tiny")
    assert weights["output.2.weight"].shape == (7, 4) and weights["features.1.running_var"].tolist() == [1] * 4
    block = embedding(pretrained_network("tiny").build(2), weights)
    expected = source.features(images()).asnumpy().mean((2, 3))
    np.testing.assert_allclose(block(images()).asnumpy(), expected, rtol=1e-4, atol=1e-6)


def test_real_mobilenet_tells_hotdogs_from_other_photos(shared: Callable[[str], Path]) -> None:
    path = shared("mobilenetv2_1_0") / "mobilenetv2_1_0_features.npz"
    weights = read_weights(path, "mobilenet_v2")
    assert len(weights) == 265 and not any(name.startswith("output.") for name in weights)
    folders = sorted(each for each in (shared("hotdog-photos") / "train").iterdir())
    paths = [each for folder in folders for each in sorted(folder.iterdir())[:100]]
    block = embedding(BACKBONES["mobilenetv2_1.0"].build(2), weights)
    views = [to_tensor([center_view(Image.open(each).convert("RGB"))]) for each in paths]
    few = block(mx.nd.array(np.concatenate(views[:4]))).asnumpy()
    features = np.concatenate(list(Runner(block, PHOTO.crop)(views)))
    np.testing.assert_allclose(features[:4], few, atol=1e-4)
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    accuracy = cross_val_score(regression, features, np.repeat([0, 1], 100), cv=5)
    assert accuracy.mean() > 0.8
