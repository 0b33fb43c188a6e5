"""Predictions: a classifier's probabilities on one split, the metrics they give, and the file they are kept in."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import center_view
from cnn.evaluation.classifier import Classifier
from cnn.support.parallel import ordered_map
from cnn.support.progress import track
from cnn.training.metrics import Confusion, Scores, confusion_matrix, scores


class Metrics(Scores):
    """Metrics of one split, and the number of images they are computed from."""

    images: int


@dataclass(frozen=True)
class Predictions:
    """A classifier's predictions on one split: ids and names, true labels (n,), probabilities (n, classes)."""

    ids: Sequence[str]
    names: Sequence[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The class with the highest probability, (n,)."""
        return self.probabilities.argmax(1)

    @property
    def confusion(self) -> Confusion:
        """Counts of class *row* predicted as class *column*."""
        return confusion_matrix(self.labels, self.predicted, self.probabilities.shape[1])

    def metrics(self, positive: int | None) -> Metrics:
        """Metrics as in `cnn.training.metrics.scores`."""
        return Metrics(**dict(scores(self.confusion, positive)), images=len(self.labels))

    def without(self, ids: Collection[str]) -> Self:
        """The predictions for images that are none of these."""
        kept = [number for number, id_ in enumerate(self.ids) if id_ not in ids]
        kept_ids, names = ([each[number] for number in kept] for each in (self.ids, self.names))
        return type(self)(kept_ids, names, self.labels[kept], self.probabilities[kept])

    def caption(self, number: int, classes: Sequence[str]) -> str:
        """The prediction with its probability, and on another line the label if that is another."""
        predicted, label = self.predicted[number], self.labels[number]
        names = {index: " ".join(classes[index].splitlines()) for index in (predicted, label)}
        prediction = f"{names[predicted]} {self.probabilities[number, predicted]:.0%}"
        return prediction if predicted == label else f"{prediction}\nis {names[label]}"

    def most_confident(self, *, correct: bool, count: int) -> list[int]:
        """Numbers of the correct or wrong predictions with the highest probability, highest first."""
        chosen = np.flatnonzero((self.predicted == self.labels) == correct)
        return chosen[np.argsort(-self.probabilities[chosen].max(1), kind="stable")][:count].tolist()


def predict_split(classifier: Classifier, dataset: Dataset, split: str) -> Predictions:
    """Run the published preprocessing and network over one split."""
    ids, labels = dataset.ids_and_labels(split)
    crops = ordered_map(lambda row: center_view(decode(row.data), classifier.preprocessing), dataset.rows(split))
    probabilities = track(classifier.predict(crops), f"evaluating {split}", len(ids), "image")
    return Predictions(ids, dataset.names(split), labels, np.stack(list(probabilities)))


def save_predictions(path: Path, predictions: Predictions, classes: Sequence[str]) -> None:
    """Write predictions as Parquet, an image a row: id, image (its name), label, prediction, ``p(CLASS)`` of each."""
    columns: dict[str, Any] = {
        "id": predictions.ids,
        "image": predictions.names,
        "label": [classes[label] for label in predictions.labels],
        "prediction": [classes[predicted] for predicted in predictions.predicted],
    }
    columns |= {f"p({name})": predictions.probabilities[:, number] for number, name in enumerate(classes)}
    pq.write_table(pa.table(columns), path)


def load_predictions(path: Path, classes: Sequence[str]) -> Predictions:
    """Read what `save_predictions` wrote."""
    table = pq.read_table(path)
    return Predictions(
        ids=table["id"].to_pylist(),
        names=table["image"].to_pylist(),
        labels=np.array([classes.index(label) for label in table["label"].to_pylist()], np.int64),
        probabilities=np.stack([table[f"p({name})"].to_numpy() for name in classes], 1),
    )
