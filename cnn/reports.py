"""A checkpoint's report: metrics, predictions, curves, confusion matrices and example pictures in one folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cnn.backend import Device
from cnn.checkpoints import load_checkpoint
from cnn.classifier import Classifier
from cnn.datasets import Dataset
from cnn.evaluation import Predictions, predict_split
from cnn.files import atomic_folder
from cnn.pictures import center_view, decode
from cnn.plots import confusion_plot, learning_curves, picture_grid, save_figure

_EXAMPLES = 8


def write_report(
    checkpoint: Path, dataset: Dataset, positive: int | None, devices: Sequence[Device], folder: Path
) -> None:
    """Evaluate a checkpoint on validation and, once, on test, and fill ``folder`` with what was found.

    Writes ``metrics.json`` (``metrics``: split → metric → value; ``confusion``: split → counts),
    ``history.json``, ``predictions-SPLIT.parquet``, ``curves.png``, ``confusion.png`` and ``examples.png``.
    """
    trained = load_checkpoint(checkpoint)
    classifier = Classifier(trained.parameters, dataset.classes, devices)
    evaluated = [split for split in dataset.splits if split != "train"]
    answers = {split: predict_split(classifier, dataset, split) for split in evaluated}
    with atomic_folder(folder) as temporary:
        summary: dict[str, Any] = {
            "metrics": {split: found.scores(positive) for split, found in answers.items()},
            "confusion": {split: found.confusion.tolist() for split, found in answers.items()},
        }
        (temporary / "metrics.json").write_text(json.dumps(summary, indent=2))
        (temporary / "history.json").write_text(json.dumps(trained.history, indent=1))
        for split, found in answers.items():
            pq.write_table(_predictions_table(found, dataset.classes), temporary / f"predictions-{split}.parquet")
        confusions = {split: found.confusion for split, found in answers.items()}
        save_figure(learning_curves(trained.history), temporary / "curves.png")
        save_figure(confusion_plot(confusions, dataset.classes), temporary / "confusion.png")
        save_figure(picture_grid(_examples(answers, dataset)), temporary / "examples.png")


def _predictions_table(found: Predictions, classes: Sequence[str]) -> pa.Table:
    answers = found.probabilities.argmax(1)
    columns: dict[str, Any] = {
        "id": found.ids,
        "picture": found.names,
        "label": [classes[label] for label in found.labels],
        "answer": [classes[answer] for answer in answers],
    }
    columns |= {f"p({name})": found.probabilities[:, number] for number, name in enumerate(classes)}
    return pa.table(columns)


def _examples(answers: dict[str, Predictions], dataset: Dataset) -> dict[str, list[tuple[Image.Image, str]]]:
    """The surest right and wrong answers on the last split there is, as titled rows of captioned crops."""
    split, found = list(answers.items())[-1]
    titles = {True: f"{split}: right, and surest of it", False: f"{split}: wrong, and surest of it"}
    chosen = {titles[right]: found.most_confident(right, _EXAMPLES) for right in titles}
    wanted = {found.ids[number] for numbers in chosen.values() for number in numbers}
    crops = {row.id: center_view(decode(row.data)) for row in dataset.rows(split) if row.id in wanted}
    return {
        title: [(crops[found.ids[number]], _caption(found, number, dataset.classes)) for number in numbers]
        for title, numbers in chosen.items()
        if numbers
    }


def _caption(found: Predictions, number: int, classes: Sequence[str]) -> str:
    answer = int(found.probabilities[number].argmax())
    said = f"{classes[answer]} {found.probabilities[number, answer]:.0%}"
    truth = classes[found.labels[number]]
    return said if classes[answer] == truth else f"{said}\nis {truth}"
