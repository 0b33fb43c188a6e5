"""What an image graph shows a network, run by onnxruntime, against what `center_view` shows it, made by Pillow."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from cnn.data.images import PHOTO, Preprocessing, center_view, resize_short, to_tensor
from cnn.networks.image_graphs import add_preprocessing

PREPROCESSINGS = (PHOTO, Preprocessing.whole(32), Preprocessing.whole(20, stretched=True))


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> list[onnxruntime.InferenceSession]:
    """For each preprocessing, a network that gives back what it is shown."""
    folder = tmp_path_factory.mktemp("graphs")
    text = """<ir_version: 11, opset_import: ["" : 23]>
    network (float[batch, 3, side, side] data) => (float[batch, 3, side, side] shown) { shown = Identity (data) }"""
    onnx.save(onnx.parser.parse_model(text), folder / "shown.onnx")
    found = []
    for number, preprocessing in enumerate(PREPROCESSINGS):
        add_preprocessing(folder / "shown.onnx", folder / f"{number}.onnx", preprocessing)
        onnx.checker.check_model(folder / f"{number}.onnx", full_check=True)
        found.append(onnxruntime.InferenceSession(folder / f"{number}.onnx"))
    return found


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 1200), st.integers(1, 1200), st.integers(0, 99))
@example(4000, 3000, 0)
@example(513, 512, 1)
@example(512, 600, 2)
@example(1, 50, 3)
def test_network_is_shown_the_same(
    sessions: list[onnxruntime.InferenceSession], width: int, height: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    kept = resize_short(image, 512) if min(image.size) > 512 else image
    for session, preprocessing in zip(sessions, PREPROCESSINGS, strict=True):
        (shown,) = session.run(None, {"image": np.asarray(image)})
        view = center_view(kept, preprocessing)
        unit = 1 / max(1, np.ptp(np.asarray(view)))  # of one level of brightness, where images are stretched
        if preprocessing.std:
            unit = 1 / (255 * np.array(preprocessing.std)[:, None, None])
        differences = np.abs(shown - to_tensor([view], preprocessing)) / unit
        assert differences.max() < 2.1  # levels of 255: each of two steps may round a value the other way
