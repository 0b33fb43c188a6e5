"""A checkpoint's report: metrics, predictions, curves, confusion matrices and example pictures in one folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cnn.backend import Device
from cnn.checkpoints import Epoch, load_checkpoint
from cnn.classifier import Classifier
from cnn.datasets import Dataset
from cnn.evaluation import Predictions, predict_split
from cnn.files import atomic_folder
from cnn.hyperparameters import Design
from cnn.pictures import Input, center_view, decode
from cnn.plots import confusion_plot, learning_curves, picture_grid, save_figure

_EXAMPLES = 8


def write_report(
    checkpoint: Path,
    design: Design,
    dataset: Dataset,
    positive: int | None,
    devices: Sequence[Device],
    folder: Path,
) -> None:
    """Evaluate a checkpoint on validation and, once, on test, and fill ``folder`` with what was found.

    Writes ``metrics.json`` (``metrics``: split → metric → value; ``confusion``: split → counts; ``parameters``: how
    many; ``caveats``: the dataset's), ``history.parquet`` (an epoch a row), ``predictions-SPLIT.parquet``,
    ``curves.png``, ``confusion.png`` and ``examples.png``.
    """
    trained = load_checkpoint(checkpoint)
    classifier = Classifier.build(design, trained.parameters, dataset.classes, devices)
    evaluated = [split for split in dataset.splits if split != "train"]
    answers = {split: predict_split(classifier, dataset, split) for split in evaluated}
    with atomic_folder(folder) as temporary:
        summary: dict[str, Any] = {
            "parameters": sum(values.size for values in trained.parameters.values()),
            "metrics": {split: found.scores(positive) for split, found in answers.items()},
            "confusion": {split: found.confusion.tolist() for split, found in answers.items()},
            "caveats": dataset.caveats,
        }
        (temporary / "metrics.json").write_text(json.dumps(summary, indent=2))
        pq.write_table(history_table(trained.history), temporary / "history.parquet")
        for split, found in answers.items():
            pq.write_table(_predictions_table(found, dataset.classes), temporary / f"predictions-{split}.parquet")
        confusions = {split: found.confusion for split, found in answers.items()}
        figures = {
            "curves": learning_curves(trained.history, trained.kept),
            "confusion": confusion_plot(confusions, dataset.classes),
            "examples": picture_grid(_examples(answers, dataset, design.input)),
        }
        for name, figure in figures.items():
            save_figure(figure, temporary / f"{name}.png", dataset.caveats)


def history_table(epochs: Sequence[Epoch]) -> pa.Table:
    """Epochs as a table, an epoch a row; what some do not have is null there.

    >>> history_table([{"epoch": 0}, {"epoch": 1, "train_loss": 0.5}])["train_loss"].to_pylist()
    [None, 0.5]
    """
    names = dict.fromkeys(name for epoch in epochs for name in epoch)
    return pa.table({name: [epoch.get(name) for epoch in epochs] for name in names})


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


def read_predictions(report: Path, split: str, classes: Sequence[str]) -> Predictions:
    """The answers on one split that a report holds."""
    table = pq.read_table(report / f"predictions-{split}.parquet")
    return Predictions(
        table["id"].to_pylist(),
        table["picture"].to_pylist(),
        np.array([classes.index(label) for label in table["label"].to_pylist()]),
        np.stack([table[f"p({name})"].to_numpy() for name in classes], 1),
    )


def captioned(
    chosen: Mapping[str, tuple[Predictions, list[int]]],
    dataset: Dataset,
    split: str,
    show: Callable[[Image.Image], Image.Image],
) -> dict[str, list[tuple[Image.Image, str]]]:
    """Under each name the pictures of the chosen answers, as ``show`` makes them, with captions; reads once."""
    wanted = {found.ids[number] for found, numbers in chosen.values() for number in numbers}
    pictures = {row.id: show(decode(row.data)) for row in dataset.rows(split) if row.id in wanted}
    return {
        name: [(pictures[found.ids[number]], found.caption(number, dataset.classes)) for number in numbers]
        for name, (found, numbers) in chosen.items()
    }


def _examples(
    answers: dict[str, Predictions], dataset: Dataset, given: Input
) -> dict[str, list[tuple[Image.Image, str]]]:
    """The surest right and wrong answers on the last split there is, as titled rows of captioned crops."""
    split, found = list(answers.items())[-1]
    titles = {True: f"{split}: right, and surest of it", False: f"{split}: wrong, and surest of it"}
    chosen = {title: (found, found.most_confident(right, _EXAMPLES)) for right, title in titles.items()}
    rows = captioned(chosen, dataset, split, lambda picture: center_view(picture, given))
    return {title: items for title, items in rows.items() if items}
