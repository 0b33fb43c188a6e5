"""What the classifier shows a network, against Pillow and numpy; networks with parameters that give it away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn.data.decoding import NotAnImageError
from cnn.data.images import Preprocessing
from cnn.evaluation.classifier import Classifier
from cnn.networks.running import Runner, initialise
from cnn.support.backend import mx

WHOLE = Preprocessing.whole(8)


def flat_network(classes: int, side: int) -> Any:
    """A network that answers; its logits are sums of its inputs, all weighted with 0 until a test sets them."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Flatten(), mx.gluon.nn.Dense(classes), mx.gluon.nn.HybridLambda("softmax"))
    initialise(net, side, seed=0)
    net[1].weight.set_data(mx.nd.zeros((classes, 3 * side * side)))
    return net


def show_channel(channel: int, side: int = 8) -> Classifier:
    """A classifier whose first logit is the mean of one channel of what it is shown, and whose other is 0."""
    net = flat_network(2, side)
    weights = np.zeros((2, 3, side, side), np.float32)
    weights[0, channel] = 1 / side**2
    net[1].weight.set_data(mx.nd.array(weights.reshape(2, -1)))
    return Classifier(Runner(net, side), ("this", "other"), Preprocessing.whole(side))


def logit(shares: dict[str, float]) -> float:
    return float(np.log(shares["this"] / shares["other"]))


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_channels_are_red_green_blue(tmp_path: Path, channel: int) -> None:
    Image.new("RGB", (8, 8), (200, 100, 30)).save(tmp_path / "plain.png")
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # ImageNet's
    expected = ((200, 100, 30)[channel] / 255 - mean[channel]) / std[channel]
    assert logit(show_channel(channel).classify(tmp_path / "plain.png")) == pytest.approx(expected, abs=1e-4)


def test_transparency_is_seen_as_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "transparent.png")
    classifier = show_channel(0)
    assert classifier.classify(tmp_path / "transparent.png") == classifier.classify(Image.new("RGB", (8, 8), "white"))


def test_a_photo_is_seen_upright(tmp_path: Path) -> None:
    net, weights = flat_network(2, 8), np.zeros((2, 3, 8, 8), np.float32)
    weights[0, :, :, :4] = 1 / 96  # the left half
    net[1].weight.set_data(mx.nd.array(weights.reshape(2, -1)))
    classifier = Classifier(Runner(net, 8), ("this", "other"), WHOLE)
    image, exif = Image.new("RGB", (8, 8), "black"), Image.Exif()
    image.paste("white", (0, 0, 8, 4))
    exif[0x0112] = 8  # to be turned by 90° counter-clockwise: its upper half becomes the left one
    image.save(tmp_path / "lying.png", exif=exif)
    assert logit(classifier.classify(tmp_path / "lying.png")) > 1 > logit(classifier.classify(image))


def test_only_the_middle_is_seen() -> None:
    image = Image.new("RGB", (24, 8), "black")
    image.paste("white", (8, 0, 16, 8))
    classifier = show_channel(1)
    assert classifier.classify(image) == classifier.classify(Image.new("RGB", (8, 8), "white"))


def test_images_beyond_a_batch_are_predicted_in_order() -> None:
    images = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in range(256)] * 2  # 256 are run at once
    values = [float(np.log(a / b)) for a, b in show_channel(0).predict(images)]
    np.testing.assert_allclose(values[:256], values[256:], atol=1e-5)
    assert values[:256] == sorted(values[:256]) and len(set(values[:256])) == 256


def test_large_images_are_predicted_one_by_one(lenet: Callable[[int], Any]) -> None:
    large = Preprocessing.whole(1000)  # 16 photos have fewer pixels
    net, answering = initialise(lenet(2), large.crop, seed=0), mx.gluon.nn.HybridSequential()
    answering.add(net, mx.gluon.nn.HybridLambda("softmax"))
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    (found,) = Classifier(Runner(answering, 1000), ("a", "b"), large).predict([Image.fromarray(pixels)])
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    values = ((pixels / np.float32(255) - mean) / std).transpose(2, 0, 1)[None]
    outputs = net(mx.nd.array(values)).asnumpy()[0]
    np.testing.assert_allclose(np.log(found[0] / found[1]), outputs[0] - outputs[1], rtol=1e-3, atol=1e-4)


def test_what_is_no_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(NotAnImageError):
        show_channel(0).classify(tmp_path / "text.jpg")
    with pytest.raises(FileNotFoundError):
        show_channel(0).classify(tmp_path / "nowhere.jpg")
