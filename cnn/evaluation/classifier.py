"""The classifier: which class does an image belong to, and how sure is that?"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn.data.decoding import decode
from cnn.data.images import Preprocessing, center_view, normalise, to_tensor
from cnn.data.sources.source import MAX_BYTES
from cnn.evaluation.calibration import UNCALIBRATED, Calibration
from cnn.networks.running import Runner, with_parameters
from cnn.support.backend import CPU, Devices
from cnn.support.files import read_file
from cnn.training.checkpoints import Checkpoint


def open_image(data: bytes) -> Image.Image:
    """An encoded image as the training data has it: upright RGB, shorter side at most 512 px.

    Raises:
        NotAnImageError: the bytes cannot be decoded.
    """
    return decode(normalise(data)[1])


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities from logits, along the last axis.

    >>> softmax(np.array([1000, 1000], np.float32))
    array([0.5, 0.5], dtype=float32)
    """
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class Classifier:
    """A network that runs, with its class names, preprocessing and calibration."""

    def __init__(
        self,
        network: Runner,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        calibration: Calibration = UNCALIBRATED,
    ) -> None:
        self._network, self.classes, self.preprocessing = network, tuple(classes), preprocessing
        self.calibration = calibration

    @classmethod
    def of(cls, checkpoint: Checkpoint, devices: Devices = CPU) -> Self:
        """The classifier that a training ended with; only `cnn.evaluate` calibrates it."""
        config = checkpoint.network
        net = with_parameters(config, len(checkpoint.classes), checkpoint.parameters, devices)
        return cls(Runner(net, config.preprocessing.crop, devices), checkpoint.classes, config.preprocessing)

    def predict(self, crops: Iterable[Image.Image]) -> Iterator[NDArray[np.float32]]:
        """Calibrated probability of each class, (classes,), for each upright RGB crop (`center_view`)."""
        for (logits,) in self._network(to_tensor([crop], self.preprocessing) for crop in crops):
            yield self.calibration.apply(softmax(logits))

    def classify(self, image: str | Path | Image.Image) -> dict[str, float]:
        """Probability of each class, by name, for an image file or an upright RGB image.

        Raises:
            NotAnImageError: the file's bytes cannot be decoded.
            OSError: it is no file, too large a one, or cannot be read.
        """
        opened = image if isinstance(image, Image.Image) else open_image(read_file(Path(image), MAX_BYTES))
        (probabilities,) = self.predict([center_view(opened, self.preprocessing)])
        return dict(zip(self.classes, map(float, probabilities), strict=True))
