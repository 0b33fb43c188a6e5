"""Every format and naming gives the same 52 tensors; whatever does not fit is refused in one sentence."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from torch_pickles import write_legacy_pth, write_zip_pth

from cnn.networks.weights import expected_shapes, read_weights
from cnn.support.backend import mx
from cnn.support.errors import UserError

CLASSES = 5
Tensors = dict[str, NDArray[Any]]


def make_network(classes: int, version: str = "1_1") -> Any:
    """Gluon's own SqueezeNet with random parameters, all of them of known shape."""
    network = getattr(mx.gluon.model_zoo.vision, f"squeezenet{version}")(classes=classes)
    network.initialize(mx.init.Xavier())
    network(mx.nd.zeros((1, 3, 224, 224)))
    return network


@pytest.fixture(scope="module")
def network() -> Any:
    mx.random.seed(1)
    return make_network(CLASSES)


@pytest.fixture(scope="module")
def weights(network: Any) -> Tensors:
    """The network's shapes under its structural names, filled with random numbers, biases too."""
    rng = np.random.default_rng(1)
    parameters = network._collect_params_with_prefix()
    return {name: rng.standard_normal(p.shape).astype(np.float32) for name, p in parameters.items()}


def flat(weights: Tensors, prefix: str) -> Tensors:
    """Gluon's flat names: convolutions counted in the order of the layers."""
    names = (f"{prefix}conv{number}_{part}" for number in range(26) for part in ("weight", "bias"))
    return dict(zip(names, weights.values(), strict=True))


def torchvision(weights: Tensors) -> Tensors:
    """The names of torchvision/models/squeezenet.py, version 1_1."""
    fires = [
        f"features.{index}.{part}"
        for index in (3, 4, 6, 7, 9, 10, 11, 12)
        for part in ("squeeze", "expand1x1", "expand3x3")
    ]
    layers = ["features.0", *fires, "classifier.1"]
    names = (f"{layer}.{part}" for layer in layers for part in ("weight", "bias"))
    return dict(zip(names, weights.values(), strict=True))


def write_params(path: Path, tensors: Tensors) -> None:
    mx.nd.save(str(path), {name: mx.nd.array(array, dtype=array.dtype) for name, array in tensors.items()})


def write_onnx(path: Path, tensors: Tensors) -> None:
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = onnx.helper.make_graph([], "squeezenet", [], [], initializers)
    onnx.save(onnx.helper.make_model(graph), str(path))


def write_npz(path: Path, tensors: Tensors) -> None:
    np.savez(path, **tensors)


WRITERS: dict[str, Callable[..., None]] = {
    "params": write_params,
    "onnx": write_onnx,
    "npz": write_npz,
    "zip.pth": write_zip_pth,
    "legacy.pth": write_legacy_pth,
}


def assert_same(found: Tensors, expected: Tensors) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == np.float32 and found[name].flags.c_contiguous
        np.testing.assert_array_equal(found[name], array)


def refusal(path: Path) -> str:
    """The sentence with which the file is refused; it names the file and is one line."""
    with pytest.raises(UserError) as caught:
        read_weights(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ") and "\n" not in sentence and sentence.endswith(".")
    return sentence


def test_shapes_are_gluons(network: Any) -> None:
    shapes = {name: p.shape for name, p in network._collect_params_with_prefix().items()}
    assert list(expected_shapes("squeezenet", CLASSES).items()) == list(shapes.items())
    assert len(shapes) == 52


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("naming", ["structural", "squeezenet0_", "arg:dog_", "", "torchvision"])
def test_round_trip(tmp_path: Path, weights: Tensors, ending: str, naming: str) -> None:
    if naming == "structural":
        named = weights
    else:
        named = torchvision(weights) if naming == "torchvision" else flat(weights, naming)
    path = tmp_path / f"weights.{ending}"
    WRITERS[ending](path, dict(reversed(named.items())))  # the order does not matter
    assert_same(read_weights(path), weights)


def test_flat_names_are_gluons(tmp_path: Path, network: Any) -> None:
    path = tmp_path / "weights.params"
    network.collect_params().save(str(path))
    structural = {name: p.data().asnumpy() for name, p in network._collect_params_with_prefix().items()}
    assert_same(read_weights(path), structural)


@pytest.mark.parametrize("write", [write_zip_pth, write_legacy_pth])
def test_strided_tensors(tmp_path: Path, weights: Tensors, write: Callable[..., None]) -> None:
    path = tmp_path / "weights.pth"
    write(path, torchvision(weights), offset=3, transposed=True)
    assert_same(read_weights(path), weights)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 0), (np.float16, 2e-3)])
def test_other_precisions(tmp_path: Path, weights: Tensors, dtype: Any, tolerance: float) -> None:
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, **{name: array.astype(dtype) for name, array in weights.items()})
    for name, array in read_weights(path).items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, weights[name], atol=tolerance)


@pytest.mark.parametrize("ending", WRITERS)
def test_missing_tensor(tmp_path: Path, weights: Tensors, ending: str) -> None:
    path = tmp_path / f"weights.{ending}"
    WRITERS[ending](path, {name: array for name, array in weights.items() if name != "features.7.0.0.bias"})
    assert "'features.7.0.0.bias': expected 52 tensors, found 51" in refusal(path)


NAN = np.array([0, np.nan, 0, np.inf, 0], np.float32)
MISFITS: dict[str, tuple[str, NDArray[Any], str]] = {
    "extra": ("fc.weight", NAN, "'fc.weight': expected only the 52 tensors of squeezenet"),
    "27th convolution": ("a_conv26_bias", NAN, "'a_conv26_bias': expected only the 52"),
    "twice": ("b_conv25_bias", NAN, "expected one tensor for output.0.bias, found 'output.0.bias' as well"),
    "misshapen": ("features.0.bias", NAN, "'features.0.bias': expected the shape (64,), found (5,)"),
    "classes disagree": ("output.0.bias", np.zeros(7), "'output.0.bias': expected the shape (5,), found (7,)"),
    "no class": ("output.0.weight", np.zeros((0, 512, 1, 1)), "'output.0.bias': expected the shape (0,), found (5,)"),
    "no axis": ("output.0.weight", np.zeros(()), "expected the shape (1, 512, 1, 1), found ()"),
    "two axes": ("output.0.bias", np.zeros((1, 5)), "expected the shape (5,), found (1, 5)"),
    "not finite": ("output.0.bias", NAN, "'output.0.bias': expected finite values, found 2 of 5"),
    "too large": ("output.0.bias", np.full(5, 1e300), "expected finite values, found 5 of 5"),
    "integers": ("output.0.bias", np.arange(5), "expected floating-point values, found int64"),
    "text": ("output.0.bias", np.array(list("abcde")), "expected floating-point values, found <U1"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_misfit(tmp_path: Path, weights: Tensors, case: str) -> None:
    name, array, expected = MISFITS[case]
    path = tmp_path / "weights.npz"
    write_npz(path, weights | {name: array})
    assert expected in refusal(path)


def test_other_network(tmp_path: Path) -> None:
    """SqueezeNet 1.0 has as many convolutions, so that its flat names are the same."""
    path = tmp_path / "squeezenet1.0.params"
    make_network(3, "1_0").collect_params().save(str(path))
    assert "_conv0_weight': expected the shape (64, 3, 3, 3), found (96, 3, 7, 7)" in refusal(path)


@pytest.mark.parametrize("ending", WRITERS)
def test_damaged_file(tmp_path: Path, weights: Tensors, ending: str) -> None:
    path = tmp_path / f"weights.{ending}"
    WRITERS[ending](path, weights)
    whole = path.read_bytes()
    for length in (0, 1, 20, 100, 3000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refusal(path)
    path.write_text("These are not the weights that you are looking for.\n" * 9, encoding="utf-8")
    refusal(path)


def test_import_is_light() -> None:
    """Neither ONNX nor MXNet, which take seconds to import, is needed before a file is read."""
    command = "import sys, cnn.networks.weights; sys.exit(' '.join({'onnx', 'mxnet'} & set(sys.modules)))"
    root = Path(__file__).parents[3]
    process = subprocess.run([sys.executable, "-c", command], cwd=root, capture_output=True, text=True, check=False)
    assert process.stderr.strip() == ""


def test_onnx_computes_the_same(tmp_path: Path, network: Any) -> None:
    """ONNX Runtime runs the file; Gluon runs what was read from it."""
    path = tmp_path / "squeezenet.onnx"
    network.hybridize()
    images = np.random.default_rng(2).normal(scale=1e5, size=(1, 3, 224, 224)).astype(np.float32)
    network(mx.nd.array(images))
    network.export(str(tmp_path / "squeezenet"))
    files = (str(tmp_path / "squeezenet-symbol.json"), str(tmp_path / "squeezenet-0000.params"))
    mx.onnx.export_model(*files, [images.shape], np.float32, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {session.get_inputs()[0].name: images})
    assert expected.max() > 1
    np.testing.assert_allclose(outputs(read_weights(path), images), expected, rtol=1e-4, atol=1e-4)


def test_pretrained_weights(shared: Callable[[str], Path]) -> None:
    """ImageNet's weights reproduce the outputs that came with them."""
    folder = shared("squeezenet1_1")
    found = outputs(read_weights(folder / "squeezenet1_1.params"), np.load(folder / "check_input.npy"))
    np.testing.assert_allclose(found, np.load(folder / "check_output.npy"), atol=1e-3)


def outputs(weights: Tensors, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What Gluon's SqueezeNet 1.1 with these weights makes of images (n, 3, 224, 224): (n, classes)."""
    network = mx.gluon.model_zoo.vision.squeezenet1_1(classes=len(weights["output.0.bias"]))
    network.initialize()
    for name, parameter in network._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.array(weights[name]))
    return network(mx.nd.array(images)).asnumpy()
