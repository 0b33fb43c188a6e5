"""Answers: what a network's probabilities lead to, and what is known beside them. Needs numpy alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: The aim by which the most probable class is predicted, however many there are.
MOST_PROBABLE = "0.5"


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities from logits, along the last axis.

    >>> softmax(np.array([1000, 1000], np.float32))
    array([0.5, 0.5], dtype=float32)
    """
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@dataclass(frozen=True)
class Calibration:
    """How a network's probabilities become those of its answers, and which class these predict.

    Attributes:
        temperature: logits are divided by it before the softmax.
        aim: what the threshold was chosen for.
        positive: index of the class that is predicted from the threshold on.
        threshold: probability 0…1 of that class, of two; None: the most probable class is predicted.
    """

    temperature: float = 1.0
    aim: str = MOST_PROBABLE
    positive: int | None = None
    threshold: float | None = None

    def apply(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated probabilities (…, classes) from a network's.

        >>> Calibration(temperature=2).apply(np.array([0.8, 0.2])).round(3)
        array([0.667, 0.333])
        """
        powers = probabilities ** (1 / self.temperature)
        return powers / powers.sum(-1, keepdims=True)

    def decide(self, probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
        """Index of the predicted class, (…,), from calibrated probabilities (…, classes).

        >>> int(Calibration(positive=0, threshold=0.3).decide(np.array([0.4, 0.6])))
        0
        """
        if self.positive is None or self.threshold is None:
            return probabilities.argmax(-1)
        reached = probabilities[..., self.positive].astype(np.float64) >= self.threshold
        return np.where(reached, self.positive, 1 - self.positive)


#: A network's own probabilities, of which the highest decides.
UNCALIBRATED = Calibration()


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
