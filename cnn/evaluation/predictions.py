"""Predictions: a classifier's probabilities on one split, the metrics they give, and the file they are kept in."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import center_view
from cnn.evaluation.answers import UNCALIBRATED, Calibration
from cnn.evaluation.classifier import Classifier
from cnn.evaluation.metrics import Answers, Metrics, measure
from cnn.support.parallel import ordered_map
from cnn.support.progress import track
from cnn.training.metrics import Confusion, confusion_matrix


@dataclass(frozen=True)
class Predictions:
    """A classifier's predictions on one split: ids and names, true labels (n,), probabilities (n, classes).

    ``calibration`` is the one that the probabilities have, and by which they become predictions.
    """

    ids: Sequence[str]
    names: Sequence[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    calibration: Calibration = UNCALIBRATED

    def calibrated(self, calibration: Calibration) -> Self:
        """The predictions, whose probabilities are a network's own, after calibration."""
        return replace(self, probabilities=calibration.apply(self.probabilities), calibration=calibration)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The predicted classes, (n,)."""
        return self.calibration.decide(self.probabilities)

    @property
    def confusion(self) -> Confusion:
        """Counts of class *row* predicted as class *column*."""
        return confusion_matrix(self.labels, self.predicted, self.probabilities.shape[1])

    def metrics(self, positive: int | None) -> Metrics:
        """All metrics with their intervals, as in `cnn.evaluation.metrics.measure`."""
        return measure(Answers(self.labels, self.probabilities, self.predicted), positive)

    def without(self, ids: Collection[str]) -> Self:
        """The predictions for images that are none of these."""
        kept = [number for number, id_ in enumerate(self.ids) if id_ not in ids]
        kept_ids, names = ([each[number] for number in kept] for each in (self.ids, self.names))
        return type(self)(kept_ids, names, self.labels[kept], self.probabilities[kept], self.calibration)

    def caption(self, number: int, classes: Sequence[str]) -> str:
        """The prediction with its probability, and on another line the label if that is another."""
        predicted, label = self.predicted[number], self.labels[number]
        names = {index: " ".join(classes[index].splitlines()) for index in (predicted, label)}
        prediction = f"{names[predicted]} {self.probabilities[number, predicted]:.0%}"
        return prediction if predicted == label else f"{prediction}\nis {names[label]}"

    def most_confident(self, *, correct: bool, count: int) -> list[int]:
        """Numbers of the correct or wrong predictions with the highest probability, highest first."""
        predicted = self.predicted
        chosen = np.flatnonzero((predicted == self.labels) == correct)
        confidence = self.probabilities[chosen, predicted[chosen]]
        return chosen[np.argsort(-confidence, kind="stable")][:count].tolist()


def predict_split(classifier: Classifier, dataset: Dataset, split: str) -> Predictions:
    """Run the published preprocessing and network over one split."""
    ids, labels = dataset.ids_and_labels(split)
    crops = ordered_map(lambda row: center_view(decode(row.data), classifier.preprocessing), dataset.rows(split))
    probabilities = track(classifier.predict(crops), f"evaluating {split}", len(ids), "image")
    return Predictions(ids, dataset.names(split), labels, np.stack(list(probabilities)), classifier.calibration)


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


def load_predictions(path: Path, classes: Sequence[str], calibration: Calibration) -> Predictions:
    """Read what `save_predictions` wrote of predictions with this calibration."""
    table = pq.read_table(path)
    return Predictions(
        ids=table["id"].to_pylist(),
        names=table["image"].to_pylist(),
        labels=np.array([classes.index(label) for label in table["label"].to_pylist()], np.int64),
        probabilities=np.stack([table[f"p({name})"].to_numpy() for name in classes], 1),
        calibration=calibration,
    )
