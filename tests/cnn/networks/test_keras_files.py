"""The packaged weights compute what the original network computes from the file as it lies; bad files are refused."""

import io
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import ROOT
from numpy.typing import NDArray
from PIL import Image

from cnn.data.catalog import WEIGHTS
from cnn.data.images import MEAN, STD
from cnn.data.sample import draw
from cnn.networks.architectures import squeezenet
from cnn.networks.running import initialise, set_parameters
from cnn.networks.weight_files import read_tensors
from cnn.networks.weights import read_weights
from cnn.support.backend import mx
from cnn.support.errors import UserError
from cnn.support.files import file_digest

(PACKAGED,) = WEIGHTS["squeezenet1_1"]["packaged"]
FILE = Path(PACKAGED.addresses[0])
HOTDOG = 934  # its class in ImageNet


@pytest.fixture(scope="module")
def original() -> onnxruntime.InferenceSession:
    """Caffe's SqueezeNet 1.1 (github.com/forresti/SqueezeNet) with the file's own numbers: BGR, 0…255, minus a mean."""
    nodes: list[Any] = []
    constants: list[Any] = []

    def node(kind: str, inputs: list[str], **options: Any) -> str:
        nodes.append(onnx.helper.make_node(kind, inputs, [f"{len(nodes)}"], **options))
        return nodes[-1].output[0]

    def convolve(x: str, file: h5py.File, layer: str, strides: int = 1, padding: int = 0) -> str:
        group = file[layer]
        names = [f"{layer} {kind}" for kind in "Wb"]
        (weight, bias) = (group[next(key for key in group if key.endswith(f"_{kind}:0"))][()] for kind in "Wb")
        constants.extend(
            onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
            for values, name in zip((weight.transpose(3, 2, 0, 1), bias), names, strict=True)
        )
        return node("Relu", [node("Conv", [x, *names], strides=[strides] * 2, pads=[padding] * 4)])

    with h5py.File(FILE) as file:
        layers = _layers(file)
        x = convolve("data", file, layers[0], strides=2)
        for number in range(2, 10):
            if number in (2, 4, 6):
                x = node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2])
            squeeze, *expand = (next(each for each in layers if f"fire{number}/{part}" in each) for part in PARTS)
            x = convolve(x, file, squeeze)
            x = node("Concat", [convolve(x, file, expand[0]), convolve(x, file, expand[1], padding=1)], axis=1)
        last = convolve(x, file, "conv10")
    outputs = [node("Flatten", [node("GlobalAveragePool", [each])]) for each in (x, last)]
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "original",
        [onnx.helper.make_tensor_value_info("data", float32, ["n", 3, 224, 224])],
        [onnx.helper.make_tensor_value_info(name, float32, ["n", None]) for name in outputs],
        constants,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


PARTS = ("squeeze1x1", "expand1x1", "expand3x3")


def _layers(file: h5py.File) -> list[str]:
    """The groups that hold the arrays of a layer each."""
    found: dict[str, None] = {}
    file.visititems(lambda name, item: found.setdefault(item.parent.name[1:]) if hasattr(item, "shape") else None)
    return sorted(found, key=lambda name: name != "conv1")


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def compare(images: NDArray[np.uint8], original: onnxruntime.InferenceSession) -> NDArray[np.int64]:
    """Assert that both networks agree about RGB images (n, 224, 224, 3); returns their first choices."""
    blue_first = images[..., ::-1].astype(np.float32) - np.array([104.006, 116.669, 122.679], np.float32)
    features, logits = original.run(None, {"data": np.ascontiguousarray(blue_first.transpose(0, 3, 1, 2))})
    net = initialise(squeezenet(1000), 224, seed=0)
    set_parameters(net, read_weights(FILE))
    ours = mx.nd.array(((images / 255 - MEAN) / STD).transpose(0, 3, 1, 2))
    found = net.features(ours)
    np.testing.assert_allclose(found.asnumpy().mean((2, 3)), features, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(softmax(net.output(found).asnumpy()), softmax(logits), atol=1e-3)
    assert np.ptp(features) > 1 and np.ptp(softmax(logits)) > 0.01
    return logits.argmax(1)


def test_drawn_images(original: onnxruntime.InferenceSession) -> None:
    rng = np.random.default_rng(0)
    scenes = [draw(label, 0, index) for label in ("hotdog", "not_hotdog") for index in range(2)]
    drawn = [np.asarray(Image.fromarray(scene).resize((224, 224))) for scene in scenes]
    one_colour = [np.full((224, 224, 3), colour, np.uint8) for colour in (0, 255, (200, 30, 60))]
    compare(np.stack([*drawn, *one_colour, rng.integers(0, 256, (224, 224, 3), np.uint8)]), original)


def test_photos(original: onnxruntime.InferenceSession, shared: Callable[[str], Path]) -> None:
    """Hotdogs are hotdogs, and would not be with blue for red."""
    paths = sorted((shared("hotdog-photos") / "train").glob("hot_dog/*"))[:32]
    photos = np.stack([np.asarray(Image.open(path).convert("RGB").resize((224, 224))) for path in paths])
    assert np.mean(compare(photos, original) == HOTDOG) > 0.3


def test_catalog_knows_the_file() -> None:
    assert (FILE.stat().st_size, file_digest(FILE)) == (PACKAGED.size, PACKAGED.digest)
    assert len(read_weights(FILE)) == 52


# ---- files that are refused


def refusal(path: Path, read: Callable[[Path], Any] = read_tensors) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ") and "\n" not in sentence and sentence.endswith(".")
    return sentence


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    path = tmp_path / "weights.h5"
    path.write_bytes(FILE.read_bytes())
    return path


CONV1 = "conv1/conv1_W:0"


def replace(path: Path, name: str, *values: Any, **options: Any) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_dataset(name, *values, **options)


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "8 TB": ({"shape": (1 << 20, 1 << 21), "dtype": "f4"}, "are more than the file has"),
    "compressed": ({"data": np.zeros((3, 3, 3, 64), "f4"), "compression": "gzip"}, "are packed"),
    "in another file": ({"shape": (64,), "dtype": "f4", "external": [("/etc/passwd", 0, 256)]}, "in another file"),
    "integers": ({"data": np.zeros((3, 3, 3, 64), int)}, "are not floating-point numbers"),
    "texts": ({"data": ["a"], "dtype": h5py.string_dtype()}, "are not floating-point numbers"),
    "nothing": ({"data": h5py.Empty("f4")}, "are not floating-point numbers"),
    "another shape": ({"data": np.zeros((3, 3, 64, 3), "f4")}, "its first layer is not SqueezeNet 1.1's"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_dataset(copy: Path, case: str) -> None:
    options, expected = HOSTILE[case]
    replace(copy, CONV1, **options)
    assert expected in refusal(copy)


def test_virtual_dataset(copy: Path) -> None:
    layout = h5py.VirtualLayout((64,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "a", (64,))
    with h5py.File(copy, "r+") as file:
        del file[CONV1]
        file.create_virtual_dataset(CONV1, layout)
    assert "in another file" in refusal(copy)


def test_tensors_that_do_not_fit(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        file["other/conv10_b:0"] = np.zeros(1000, "f4")
    assert "it has 'output.0.bias' twice" in refusal(copy)
    with h5py.File(copy, "r+") as file:
        del file["other"]
        file["fire10/squeeze1x1_W:0"] = np.zeros(3, "f4")
    assert "tensor 'fire10/squeeze1x1_W:0': expected only the 52 tensors" in refusal(copy, read_weights)
    with h5py.File(copy, "w") as file:
        file["link"] = h5py.ExternalLink("/etc/passwd", "/")
    assert "its first layer is not" in refusal(copy)


#: Reads each file named on its standard input, and prints what came of it; may take a quarter of a GB for that.
FUZZED = """
import resource, sys
from pathlib import Path
from cnn.networks.weights import read_weights
from cnn.support.errors import UserError
read_weights(Path(sys.argv[1]))
limit = int(open("/proc/self/statm").read().split()[0]) * 4096 + (1 << 28)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for line in sys.stdin:
    try:
        read_weights(Path(line.strip()))
        print("read", flush=True)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        print("refused", flush=True)
"""


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, most of them where the file's structure is; or cut off."""
    if rng.random() < 0.1:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 8))):
        place = rng.choice(STRUCTURE)
        changed[place] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    return bytes(changed)


def _structure(content: bytes) -> list[int]:
    """Where the file holds something else than the arrays' values."""
    values = np.zeros(len(content), bool)
    with h5py.File(io.BytesIO(content)) as file:

        def mark(_: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values[item.id.get_offset() : item.id.get_offset() + item.id.get_storage_size()] = True

        file.visititems(mark)
    return np.flatnonzero(~values).tolist()


STRUCTURE = _structure(FILE.read_bytes())


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.long)])
def test_damaged_files_are_refused_or_read(tmp_path: Path, count: int) -> None:
    """Neither a crash nor a traceback, and no memory for what a damaged header states."""
    content, rng, paths = FILE.read_bytes(), random.Random(count), []
    command = [sys.executable, "-c", FUZZED, str(FILE)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        for number in range(count):
            path = tmp_path / f"{number % 2}.h5"
            path.write_bytes(damaged(content, rng))
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            paths.append(process.stdout.readline().strip())
            assert paths[-1] in ("read", "refused"), f"file {number}"
        process.stdin.close()
    assert process.returncode == 0 and paths.count("refused") > count // 10
