"""Every format and naming gives the same 52 tensors; whatever does not fit is refused in one sentence."""

import io
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn.backend import mx
from cnn.errors import UserError
from cnn.torch_files import read_state_dict
from cnn.weights import _read_gluon, expected_shapes, read_weights

CLASSES = 5
SHARED = Path(__file__).parents[3] / "shared" / "data" / "squeezenet1_1"
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
    chance = np.random.default_rng(1)
    parameters = network._collect_params_with_prefix()
    return {name: chance.standard_normal(p.shape).astype(np.float32) for name, p in parameters.items()}


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


# PyTorch's pickles, written as PyTorch does: by a Pickler whose globals and persistent ids are torch's


class Storage:
    def __init__(self, values: NDArray[Any], key: str) -> None:
        self.data, self.length, self.key = values.tobytes(), values.size, key


class Tensor:
    """A tensor ``offset`` elements into a storage, where its axes are reversed if it is ``transposed``."""

    def __init__(self, array: NDArray[Any], key: str, offset: int = 0, transposed: bool = False) -> None:
        laid = array.transpose() if transposed else array
        self.storage = Storage(np.concatenate([np.zeros(offset, array.dtype), laid.ravel()]), key)
        strides = np.ascontiguousarray(laid).strides
        stride = tuple(step // array.itemsize for step in (strides[::-1] if transposed else strides))
        self.layout = (offset, array.shape, stride)

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, *self.layout, False, OrderedDict())


def torch_pickle(value: object, *legacy_end: None) -> bytes:
    """Protocol 2, with torch's names put in place while it is written."""
    modules = {name: ModuleType(name) for name in ("torch", "torch._utils")}
    kind = type("FloatStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    modules["torch"].FloatStorage = kind  # type: ignore[attr-defined]
    modules["torch._utils"]._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: Any) -> Any:
            if isinstance(item, Storage):
                return ("storage", kind, item.key, "cpu", item.length, *legacy_end)
            return None

    stream = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def zip_pth(content: bytes, storages: dict[str, bytes], order: str = "little") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", order)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def legacy_pth(content: bytes, storages: dict[str, bytes]) -> bytes:
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    head = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    keys = pickle.dumps(list(storages), protocol=2)
    tail = [struct.pack("<q", len(data) // 4) + data for data in storages.values()]
    return b"".join([*head, content, keys, *tail])


def state_dict(tensors: Tensors, **layout: Any) -> tuple[OrderedDict[str, Tensor], dict[str, bytes]]:
    state = OrderedDict((name, Tensor(array, f"key of {name}", **layout)) for name, array in tensors.items())
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]  # PyTorch's modules do so
    return state, {tensor.storage.key: tensor.storage.data for tensor in state.values()}


def write_zip_pth(path: Path, tensors: Tensors, **layout: Any) -> None:
    state, storages = state_dict(tensors, **layout)
    path.write_bytes(zip_pth(torch_pickle(state), storages))


def write_legacy_pth(path: Path, tensors: Tensors, **layout: Any) -> None:
    state, storages = state_dict(tensors, **layout)
    path.write_bytes(legacy_pth(torch_pickle(state, None), storages))


def write_params(path: Path, tensors: Tensors) -> None:
    mx.nd.save(str(path), {name: mx.nd.array(array, dtype=array.dtype) for name, array in tensors.items()})


def write_onnx(path: Path, tensors: Tensors) -> None:
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = onnx.helper.make_graph([], "squeezenet", [], [], initializers)
    onnx.save(onnx.helper.make_model(graph), str(path))


def write_npz(path: Path, tensors: Tensors) -> None:
    np.savez(path, **tensors)


WRITERS = {
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


def test_expected_shapes_are_gluons(network: Any) -> None:
    shapes = {name: p.shape for name, p in network._collect_params_with_prefix().items()}
    assert list(expected_shapes(CLASSES).items()) == list(shapes.items())
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
def test_views_of_a_storage(tmp_path: Path, weights: Tensors, write: Any) -> None:
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
WRONG: dict[str, tuple[str, NDArray[Any], str]] = {
    "extra": ("fc.weight", NAN, "'fc.weight': expected only the 52 tensors of SqueezeNet 1.1"),
    "27th convolution": ("a_conv26_bias", NAN, "'a_conv26_bias': expected only the 52"),
    "twice": ("b_conv25_bias", NAN, "expected one tensor for output.0.bias, found 'output.0.bias' as well"),
    "misshapen": ("features.0.bias", NAN, "'features.0.bias': expected the shape (64,), found (5,)"),
    "classes disagree": ("output.0.bias", np.zeros(7), "'output.0.weight': expected the shape (7, 512"),
    "no class": ("output.0.bias", np.zeros(0), "expected the shape (1, 512, 1, 1), found (5, 512, 1, 1)"),
    "two axes": ("output.0.bias", np.zeros((1, 5)), "expected the shape (5,), found (1, 5)"),
    "not finite": ("output.0.bias", NAN, "'output.0.bias': expected finite values, found 2 of 5"),
    "too large": ("output.0.bias", np.full(5, 1e300), "expected finite values, found 5 of 5"),
    "integers": ("output.0.bias", np.arange(5), "expected floating-point values, found int64"),
    "text": ("output.0.bias", np.array(list("abcde")), "expected floating-point values, found <U1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_tensor_that_does_not_fit(tmp_path: Path, weights: Tensors, case: str) -> None:
    name, array, expected = WRONG[case]
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
    path.write_text("These are not the weights that you are looking for.\n" * 9)
    refusal(path)


PARAMS_HEAD = struct.pack("<QQQ", 0x112, 0, 1)
VERSION_1 = struct.pack("<I", 0xF993FAC8)
FIVE_ONES = struct.pack("<Iqiii5f", 1, 5, 1, 0, 0, *[1] * 5)  # axes, length, device, type, values
BAD_PARAMS = {
    "no names": (VERSION_1 + FIVE_ONES + struct.pack("<Q", 0), "it has 1 arrays and 0 names"),
    "a long name": (VERSION_1 + FIVE_ONES + struct.pack("<QQ", 1, 1 << 40), "it ends too early"),
    "many axes": (VERSION_1 + struct.pack("<II", 1 << 31, 5), "it ends too early"),
    "a long axis": (VERSION_1 + struct.pack("<Iqiii", 1, 1 << 50, 1, 0, 0), "it ends too early"),
    "bfloat16": (VERSION_1 + struct.pack("<Iqiii", 1, 5, 1, 0, 12), "has the unknown type 12"),
    "sparse": (struct.pack("<Ii", 0xF993FAC9, 1), "one of its arrays is sparse"),
    "no version": (struct.pack("<I", 1), "one of its arrays begins with 0x1"),
}


@pytest.mark.parametrize("case", BAD_PARAMS)
def test_params_that_cannot_be_read(tmp_path: Path, case: str) -> None:
    rest, expected = BAD_PARAMS[case]
    path = tmp_path / "weights.params"
    path.write_bytes(PARAMS_HEAD + rest)
    assert expected in refusal(path)


@pytest.mark.parametrize("begin", [(0xF993FAC8,), (0xF993FAC9, 0), (0xF993FACA, 0)])
def test_params_of_every_release(tmp_path: Path, begin: tuple[int, ...]) -> None:
    """MXNet reads the same."""
    path = tmp_path / "weights.params"
    name = struct.pack("<QQ", 1, 1) + b"a"
    path.write_bytes(PARAMS_HEAD + struct.pack(f"<{len(begin)}I", *begin) + FIVE_ONES + name)
    with mx.util.np_shape(begin[0] == 0xF993FACA):
        assert mx.nd.load(str(path))["a"].asnumpy().tolist() == [1] * 5
    array = _read_gluon(path)["a"]
    assert array.dtype == np.float32 and array.tolist() == [1] * 5


def test_no_such_file_folder_suffix_or_size(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere.npz")
    (tmp_path / "folder.pth").mkdir()
    assert "directory" in refusal(tmp_path / "folder.pth")
    assert "read from .params, .onnx, .pth, .npz files" in refusal(tmp_path / "weights.h5")
    with (tmp_path / "vgg16.params").open("wb") as file:
        file.truncate(528 << 20)
    assert "it has 528 MB, SqueezeNet 1.1 has about 5" in refusal(tmp_path / "vgg16.params")


def test_npz_of_objects(tmp_path: Path, weights: Tensors) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, **weights | {"output.0.bias": np.array([print], dtype=object)})
    assert "Object arrays cannot be loaded" in refusal(path)


def test_npz_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, bomb=np.zeros(9 << 20))
    assert "its arrays take more than 64 MB" in refusal(path)


def test_onnx_with_values_elsewhere(tmp_path: Path, weights: Tensors) -> None:
    path = tmp_path / "weights.onnx"
    write_onnx(path, weights)
    model = onnx.load(str(path))
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location="../secret")
    path.write_bytes(model.SerializeToString())
    assert "lie in another file" in refusal(path)


class Shout:
    """What an attacker would pickle: loading it makes a file."""

    def __init__(self, path: Path) -> None:
        self.command = f"touch '{path}'"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("container", [zip_pth, legacy_pth])
@pytest.mark.parametrize("protocol", [2, 4])
def test_pickle_is_not_run(tmp_path: Path, container: Any, protocol: int) -> None:
    proof = tmp_path / "it-ran"
    evil = pickle.dumps({"features.0.weight": Shout(proof)}, protocol=protocol)
    path = tmp_path / "weights.pth"
    path.write_bytes(container(evil, {}))
    assert ("posix.system" if protocol == 2 else "FRAME") in refusal(path)
    assert not proof.exists()
    pickle.loads(evil)
    assert proof.exists()


def test_pickled_model_is_not_a_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(zip_pth(torch_pickle({"epoch": 3}), {}))
    assert "its 'epoch' is no tensor; save model.state_dict() alone" in refusal(path)
    path.write_bytes(zip_pth(torch_pickle([1]), {}))
    assert "it holds no state dict" in refusal(path)


@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(1, (4,), (1,)), (0, (2, 3), (2, 1)), (-1, (1,), (1,)), (0, (9,), (0,))]
)
def test_tensor_outside_its_storage(tmp_path: Path, offset: int, size: Any, stride: Any) -> None:
    tensor = Tensor(np.zeros(4, np.float32), "0")
    tensor.layout = (offset, size, stride)
    path = tmp_path / "weights.pth"
    path.write_bytes(zip_pth(torch_pickle({"w": tensor}), {"0": bytes(16)}))
    refusal(path)


def test_storage_of_the_wrong_length(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(zip_pth(torch_pickle({"w": Tensor(np.zeros(4, np.float32), "0")}), {"0": bytes(12)}))
    assert "storage 0 has 12 bytes, expected 16" in refusal(path)


def test_zip_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", torch_pickle({"w": Tensor(np.zeros(1 << 20, np.float32), "0")}))
        archive.writestr("archive/data/0", bytes(4 << 20))
    assert "claims to hold more than the file" in refusal(path)


def test_zip_in_the_other_byte_order(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(zip_pth(torch_pickle({}), {}, order="big"))
    assert "not stored in little-endian order" in refusal(path)


def test_deeply_nested_key(tmp_path: Path) -> None:
    """Hashing such a tuple would end the process."""
    path = tmp_path / "weights.pth"
    path.write_bytes(zip_pth(b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.", {}))
    assert "keys are not names" in refusal(path)


SMALL, SMALL_STORAGES = state_dict({"w": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32)})


@settings(max_examples=300, deadline=None)
@given(data=st.data(), legacy=st.booleans())
def test_altered_state_dict(tmp_path_factory: Any, data: st.DataObject, legacy: bool) -> None:
    """It is read or refused, and nothing else happens."""
    content = bytearray(torch_pickle(SMALL, *([None] if legacy else [])))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "altered.pth"
    path.write_bytes((legacy_pth if legacy else zip_pth)(bytes(content), SMALL_STORAGES))
    try:
        assert all(array.nbytes <= 24 for array in read_state_dict(path).values())
    except ValueError as error:
        assert str(error)


def test_onnx_model_computes_the_same(tmp_path: Path, network: Any) -> None:
    """ONNX Runtime runs the file; Gluon runs what was read from it."""
    path = tmp_path / "squeezenet.onnx"
    network.hybridize()
    pictures = np.random.default_rng(2).normal(scale=1e5, size=(1, 3, 224, 224)).astype(np.float32)
    network(mx.nd.array(pictures))
    network.export(str(tmp_path / "squeezenet"))
    files = (str(tmp_path / "squeezenet-symbol.json"), str(tmp_path / "squeezenet-0000.params"))
    mx.onnx.export_model(*files, [pictures.shape], np.float32, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {session.get_inputs()[0].name: pictures})
    assert expected.max() > 1
    np.testing.assert_allclose(outputs(read_weights(path), pictures), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not SHARED.exists(), reason=f"the pretrained weights are not in {SHARED}")
def test_pretrained_weights_reproduce_their_test_vector() -> None:
    weights = read_weights(SHARED / "squeezenet1_1.params")
    found = outputs(weights, np.load(SHARED / "check_input.npy"))
    np.testing.assert_allclose(found, np.load(SHARED / "check_output.npy"), atol=1e-3)


def outputs(weights: Tensors, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """What Gluon's SqueezeNet 1.1 with these weights makes of pictures (n, 3, 224, 224): (n, classes)."""
    network = mx.gluon.model_zoo.vision.squeezenet1_1(classes=len(weights["output.0.bias"]))
    network.initialize()
    for name, parameter in network._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.array(weights[name]))
    return network(mx.nd.array(pictures)).asnumpy()
