"""The forms of a published network, all run on the same image file; its input is made by Pillow and numpy."""

import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from candidates import EPOCH, SMALL, as_candidate
from PIL import Image

from cnn.data.datasets import Dataset
from cnn.networks.architectures import ARCHITECTURES
from cnn.networks.initializers import make_initializer, random_parameters
from cnn.networks.running import initialise, parameters
from cnn.publication.versions import load_version
from cnn.support.backend import mx
from cnn.training.checkpoints import Checkpoint
from cnn.training.hyperparameters import FromScratch
from cnn.training.recipes import cifar_recipe

onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")


def network_input(file: Path, stage: FromScratch) -> np.ndarray:
    """What a stage's network is shown of an image file, (1, 3, side, side): red, green and blue, the middle."""
    image, side = Image.open(file), stage.preprocessing.crop
    assert image.mode == "RGB" and stage.preprocessing.short_side == side
    width, height = (round(length * side / min(image.size)) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    values = np.asarray(resized)[top : top + side, left : left + side] / np.float32(255)
    if stage.preprocessing.mean:
        mean, std = (np.array(each, np.float32) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        values = (values - mean) / std  # ImageNet's
    else:
        values = (values - values.min()) / (values.max() - values.min())
    return values.transpose(2, 0, 1)[None].astype(np.float32)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An image file, wider than high, whose colours are all different and of which no side is like the other."""
    down, right = np.mgrid[0:60, 0:90]
    pixels = np.stack([255 - right, 2 * right, 4 * down], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def gluon_network(version: Path, stage: FromScratch) -> Any:
    net = ARCHITECTURES[stage.architecture].build(2)
    net.load_parameters(str(version / f"{stage.architecture}.params"))
    return net


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("squeezenet", "tuned"),
        ("squeezenet", "notebook"),
        pytest.param("alexnet", "tuned", marks=pytest.mark.long),
        pytest.param("vgg", "tuned", marks=pytest.mark.slow),
    ],
)
def test_all_forms_predict_alike(name: str, recipe: Any, photo: Path, drawn_dataset: Dataset, tmp_path: Path) -> None:
    stage = cifar_recipe(recipe, name).stages[0]
    weights = initialise(ARCHITECTURES[name].build(2), stage.preprocessing.crop, 0, make_initializer("he"))
    values = parameters(weights)
    if name == "squeezenet":
        values["output.0.bias"] += 5  # a ReLU follows
    trained = Checkpoint(stage.network, drawn_dataset.classes, values, (EPOCH,))
    version = as_candidate(tmp_path, drawn_dataset, trained).publish(tmp_path / "models")

    shown, net = network_input(photo, stage), gluon_network(version, stage)
    both = [net(mx.nd.array(each)).asnumpy() for each in (shown, shown[..., ::-1])]
    expected = np.mean(both, axis=0) if stage.mirrored_mean else both[0]
    other_way_round = net(mx.nd.array(shown[:, ::-1])).asnumpy()  # blue, green, red
    assert np.abs(other_way_round - both[0]).max() > 0.02, "it makes no difference what it is shown"
    graph = onnx.load(version / f"{name}.onnx").graph
    constants, used = {each.name for each in graph.initializer}, {each for node in graph.node for each in node.input}
    assert constants <= used and not constants & {each.name for each in graph.input}  # else onnxruntime warns of each
    temperature = json.loads((version / "manifest.json").read_text())["calibration"]["temperature"]
    shares = softmax(expected[0] / temperature)
    session = onnxruntime.InferenceSession(str(version / f"{name}.onnx"))
    names = [output.name for output in session.get_outputs()]
    probabilities, features = session.run(["probabilities", "features"], {"data": shown})
    assert names == ["probabilities", "features"] and features.shape[0] == 1 and features.any()
    np.testing.assert_allclose(probabilities[0], shares, atol=1e-4)
    properties = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert properties["classes"] == ["hotdog", "not_hotdog"]
    assert properties["calibration"]["temperature"] == temperature
    assert properties["preprocessing"]["crop"] == shown.shape[-1]
    files = (str(version / f"{name}-symbol.json"), ["data"], str(version / f"{name}-0000.params"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the type of an input cannot be known
        symbol = mx.gluon.SymbolBlock.imports(*files)
    np.testing.assert_allclose(symbol(mx.nd.array(shown)).asnumpy(), expected, rtol=1e-3, atol=1e-4)
    found = load_version(version).classify(photo)
    assert list(found) == ["hotdog", "not_hotdog"] == json.loads((version / "classes.json").read_text())
    np.testing.assert_allclose(list(found.values()), shares, atol=1e-3)


def test_snippets_of_the_card_answer_alike(
    photo: Path, drawn_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = random_parameters(seed=1)
    values["output.0.weight"] = np.random.default_rng(0).normal(0, 0.1, (2, 512, 1, 1)).astype(np.float32)
    values["output.0.bias"] = np.array([5, 5], np.float32)  # a ReLU follows
    trained = Checkpoint(SMALL, drawn_dataset.classes, values, (EPOCH,))
    version = as_candidate(tmp_path, drawn_dataset, trained).publish(tmp_path / "artifacts")
    shutil.copy(photo, tmp_path / "lunch.jpg")
    shutil.copy(photo, version / "lunch.jpg")
    answers: list[dict[str, float]] = []
    codes = re.findall(r"```python\n(.*?)```", (version / "README.md").read_text(encoding="utf-8"), re.S)
    for code, folder in zip(codes, (tmp_path, version, version), strict=True):
        monkeypatch.chdir(folder)
        monkeypatch.setattr("builtins.print", answers.append)
        exec(code, {})
    monkeypatch.undo()
    first, *others = answers
    for other in others:
        assert other == pytest.approx(first, abs=1e-4)
