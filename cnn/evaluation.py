"""What a checkpoint is worth: predictions and metrics on the pictures it was not trained on."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnn.classifier import Classifier
from cnn.datasets import Dataset
from cnn.metrics import Confusion, confusion_matrix, scores
from cnn.parallel import ordered_map
from cnn.pictures import center_view, decode
from cnn.progress import track


@dataclass(frozen=True)
class Predictions:
    """A classifier's answers on one split: ids and names, true labels (n,), probabilities (n, classes)."""

    ids: Sequence[str]
    names: Sequence[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def confusion(self) -> Confusion:
        """Counts of class *row* taken for class *column*."""
        return confusion_matrix(self.labels, self.probabilities.argmax(1), self.probabilities.shape[1])

    def scores(self, positive: int | None) -> dict[str, float]:
        """Metrics as in `cnn.metrics.scores`, and the number of pictures they rest on."""
        return {**scores(self.confusion, positive), "pictures": len(self.labels)}

    def without(self, ids: Collection[str]) -> "Predictions":
        """The answers on pictures that are none of these."""
        kept = [number for number, id_ in enumerate(self.ids) if id_ not in ids]
        kept_ids, names = ([each[number] for number in kept] for each in (self.ids, self.names))
        return Predictions(kept_ids, names, self.labels[kept], self.probabilities[kept])

    def caption(self, number: int, classes: Sequence[str]) -> str:
        """What was answered and how surely, and the truth if that is something else."""
        answer, label = int(self.probabilities[number].argmax()), self.labels[number]
        said = f"{classes[answer]} {self.probabilities[number, answer]:.0%}"
        return said if answer == label else f"{said}\nis {classes[label]}"

    def most_confident(self, right: bool, count: int) -> list[int]:
        """Numbers of the right or wrong answers with the highest probability, highest first."""
        answers = self.probabilities.argmax(1)
        chosen = np.flatnonzero((answers == self.labels) == right)
        return chosen[np.argsort(-self.probabilities[chosen].max(1), kind="stable")][:count].tolist()


def predict_split(classifier: Classifier, dataset: Dataset, split: str) -> Predictions:
    """Run the published preprocessing and network over one split."""
    ids, labels = dataset.ids_and_labels(split)
    crops = ordered_map(lambda row: center_view(decode(row.data), classifier.input), dataset.rows(split))
    answers = track(classifier.answers(crops), f"evaluating {split}", len(ids), "picture")
    return Predictions(ids, dataset.names(split), labels, np.stack(list(answers)))
