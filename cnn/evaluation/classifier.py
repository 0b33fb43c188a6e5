"""The classifier: which class does an image belong to, and how sure is that?"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn.data.decoding import MAX_BYTES
from cnn.data.images import Preprocessing, center_view, keep_decoded, to_tensor
from cnn.evaluation.answers import UNCALIBRATED, Answer, Calibration
from cnn.support.files import read_file
from cnn.training.novelty import Novelty


class Network(Protocol):
    """What a classifier asks: a `Runner` of a network that is `answering`, or the `Session` of its ONNX file."""

    def all_outputs(self, inputs: Iterable[NDArray[np.float32]]) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """Probabilities and, as far as they are known, features and activations of each of the inputs."""


class Classifier:
    """A network that runs, with its class names, its preprocessing, and what decides on a class and what is novel."""

    def __init__(
        self,
        network: Network,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        calibration: Calibration = UNCALIBRATED,
        novelty: Novelty | None = None,
    ) -> None:
        """Put it together.

        Args:
            calibration: the one that the network's probabilities have.
            novelty: what its features are compared with; None: it does not say what is novel.
        """
        self._network, self.classes, self.preprocessing = network, tuple(classes), preprocessing
        self.calibration, self.novelty = calibration, novelty

    def predict(self, crops: Iterable[Image.Image]) -> Iterator[NDArray[np.float32]]:
        """Probability of each class, (classes,), for each upright RGB crop (`center_view`)."""
        return (answer.probabilities for answer in self.answer(crops))

    def answer(self, crops: Iterable[Image.Image]) -> Iterator[Answer]:
        """As `predict`, with what is known beside the probabilities."""
        inputs = (to_tensor([crop], self.preprocessing) for crop in crops)
        for (probabilities,), *why in self._network.all_outputs(inputs):
            predicted, novel = int(self.calibration.decide(probabilities)), None
            if self.novelty:
                novel = bool(self.novelty.is_novel(why[0])[0])
            yield Answer(self.classes, probabilities, predicted, novel, why[1][0] if len(why) > 1 else None)

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
        opened = image if isinstance(image, Image.Image) else keep_decoded(read_file(Path(image), MAX_BYTES))
        (probabilities,) = self.predict([center_view(opened, self.preprocessing)])
        return dict(zip(self.classes, map(float, probabilities), strict=True))
