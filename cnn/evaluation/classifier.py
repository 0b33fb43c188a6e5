"""The classifier: which class does an image belong to, and how sure is that?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn.data.decoding import decode
from cnn.data.images import Preprocessing, center_view, normalise, to_tensor
from cnn.data.sources.source import MAX_BYTES
from cnn.evaluation.calibration import UNCALIBRATED, Calibration
from cnn.networks.explaining import explained
from cnn.networks.running import Runner, with_parameters
from cnn.support.backend import CPU, Devices
from cnn.support.files import read_file
from cnn.training.checkpoints import Checkpoint
from cnn.training.novelty import Novelty


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


@dataclass(frozen=True)
class Answer:
    """What a classifier says of an image; what it does not know is None.

    Attributes:
        classes: class names, in the order of the probabilities.
        probabilities: (classes,), calibrated.
        predicted: index of the class that they lead to.
        novel: whether the image is unlike everything that the head was solved from.
        activations: (classes, height, width), the logits that each position would have alone; their mean is the answer.
    """

    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    predicted: int
    novel: bool | None = None
    activations: NDArray[np.float32] | None = None

    @property
    def label(self) -> str:
        """Name of the predicted class."""
        return self.classes[self.predicted]

    @property
    def by_class(self) -> dict[str, float]:
        """Probability of each class, by name."""
        return dict(zip(self.classes, map(float, self.probabilities), strict=True))

    @property
    def evidence(self) -> NDArray[np.float32] | None:
        """For the predicted class and against the others, (height, width), by position.

        The mean is the logit of that class less the mean logit of the others.
        """
        if self.activations is None:
            return None
        others = np.delete(self.activations, self.predicted, axis=0)
        return self.activations[self.predicted] - others.mean(0)


class Classifier:
    """A network that runs, with its class names, preprocessing and calibration."""

    def __init__(
        self,
        network: Runner,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        calibration: Calibration = UNCALIBRATED,
        novelty: Novelty | None = None,
    ) -> None:
        self._network, self.classes, self.preprocessing = network, tuple(classes), preprocessing
        self.calibration = calibration
        self.novelty = novelty  # None: of a network that does not explain its answers (`explained`)

    @classmethod
    def of(cls, checkpoint: Checkpoint, devices: Devices = CPU) -> Self:
        """The classifier that a training ended with; only `cnn.evaluate` calibrates it."""
        config = checkpoint.network
        count, values, novelty = len(checkpoint.classes), checkpoint.parameters, checkpoint.novelty
        if devices != CPU:
            novelty = None
        net = explained(config, count, values) if novelty else with_parameters(config, count, values, devices)
        return cls(
            Runner(net, config.preprocessing.crop, devices), checkpoint.classes, config.preprocessing, novelty=novelty
        )

    def predict(self, crops: Iterable[Image.Image]) -> Iterator[NDArray[np.float32]]:
        """Calibrated probability of each class, (classes,), for each upright RGB crop (`center_view`)."""
        return (answer.probabilities for answer in self.answer(crops))

    def answer(self, crops: Iterable[Image.Image]) -> Iterator[Answer]:
        """As `predict`, with what is known beside the probabilities."""
        inputs = (to_tensor([crop], self.preprocessing) for crop in crops)
        for (logits,), *why in self._network.all_outputs(inputs):
            probabilities = self.calibration.apply(softmax(logits))
            predicted = int(self.calibration.decide(probabilities))
            if self.novelty:
                features, (activations,) = why
                yield Answer(
                    self.classes, probabilities, predicted, bool(self.novelty.is_novel(features)[0]), activations
                )
            else:
                yield Answer(self.classes, probabilities, predicted)

    def features(self, crops: Iterable[Image.Image]) -> NDArray[np.float32]:
        """The features, (n, channels), of one or more upright RGB crops; only of a classifier with ``novelty``."""
        inputs = (to_tensor([crop], self.preprocessing) for crop in crops)
        return np.concatenate([features for _, features, *_ in self._network.all_outputs(inputs)])

    def classify(self, image: str | Path | Image.Image) -> dict[str, float]:
        """Probability of each class, by name, for an image file or an upright RGB image.

        Raises:
            NotAnImageError: the file's bytes cannot be decoded.
            OSError: it is no file, too large a one, or cannot be read.
        """
        opened = image if isinstance(image, Image.Image) else open_image(read_file(Path(image), MAX_BYTES))
        (probabilities,) = self.predict([center_view(opened, self.preprocessing)])
        return dict(zip(self.classes, map(float, probabilities), strict=True))
