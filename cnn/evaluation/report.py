"""The report of a checkpoint: metrics, predictions, curves, confusion matrices and example images in one folder."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import BaseModel, ConfigDict

from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import Preprocessing, center_view
from cnn.evaluation.answers import MOST_PROBABLE, UNCALIBRATED, Calibration
from cnn.evaluation.calibration import calibrate, require_threshold
from cnn.evaluation.embedded import learnt_images
from cnn.evaluation.figures import save_figure
from cnn.evaluation.findings import Findings, audit
from cnn.evaluation.metrics import Metrics
from cnn.evaluation.outlook import Outlook
from cnn.evaluation.plots import (
    confusion_plot,
    decision_curves,
    epoch_curves,
    image_grid,
    learning_curve,
    regularisation_path,
)
from cnn.evaluation.predictions import Predictions, load_predictions, predict_split, save_predictions
from cnn.evaluation.trained import trained_classifier
from cnn.support.backend import CPU, Devices
from cnn.support.files import atomic_folder, file_digest
from cnn.training.checkpoints import Checkpoint, Epoch, checkpoint_file, load_checkpoint
from cnn.training.metrics import positive_class

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS_FILE, HISTORY_FILE = "metrics.json", "history.parquet"
DUPLICATES_FILE, OUTLIERS_FILE = "duplicates.parquet", "outliers.parquet"
#: What takes the place of the validation split if the head learnt from its images, too.
CROSS_VALIDATION = "cross-validation"
_EXAMPLES = 8
#: The time of an audit grows with the square of the images; so many take a quarter of an hour of a core.
_MOST_AUDITED = 100_000

logger = logging.getLogger(__name__)

#: Images with captions.
Captioned = list[tuple[Image.Image, str]]


class Report(BaseModel):
    """What ``metrics.json`` of a report's folder holds.

    Attributes:
        checkpoint: SHA-256 of the checkpoint that was evaluated.
        parameters: how many the network has.
        positive: the class of precision, recall and F1; None: they are means over all classes.
        metrics: metrics of each split.
        confusion: of each split, counts of class *row* predicted as class *column*.
        caveats: what a reader of the metrics must know about the data.
        outlook: whether more images would help; empty if the head was not solved.
        calibration: what makes the predictions from the network's probabilities.
    """

    model_config = ConfigDict(frozen=True)

    checkpoint: str
    parameters: int
    positive: str | None
    metrics: dict[str, Metrics]
    confusion: dict[str, list[list[int]]]
    caveats: tuple[str, ...]
    outlook: str = ""
    calibration: Calibration = UNCALIBRATED

    @classmethod
    def open(cls, folder: Path) -> "Report":
        """The report that `evaluate` wrote into a folder."""
        return cls.model_validate_json((folder / METRICS_FILE).read_text(encoding="utf-8"))


def evaluate(
    checkpoint: Path,
    dataset: Dataset,
    folder: Path,
    *,
    positive: str | None = None,
    threshold: str = MOST_PROBABLE,
    features: Path | None = None,
    devices: Devices = CPU,
) -> Report:
    """Evaluate a saved checkpoint on validation and, once, on test, and fill ``folder`` with the report.

    If its head learnt from validation images, too, ``cross-validation`` takes their place: predictions of all images
    but those of test by heads that were solved without the image. Temperature and threshold are chosen on those or, of
    a training by epochs, on validation. Writes ``metrics.json`` (`Report`), ``predictions-SPLIT.parquet`` and figures;
    of a training by epochs ``history.parquet`` (an epoch a row); with ``features``, what an audit finds beside labels,
    unless there are very many images: ``duplicates.parquet`` and ``outliers.parquet`` (`cnn.evaluation.findings`).

    Args:
        positive: the class of precision, recall and F1; None: ``hotdog`` if there is one, else their mean.
        threshold: what the threshold on the probability of ``positive`` is chosen for (`calibration.Aim`).
        features: the folder of those that the head was solved from.

    Raises:
        UserError: there is no class ``positive``, or the threshold needs one, or two classes.
    """
    trained, index = load_checkpoint(checkpoint), positive_class(dataset.classes, positive)
    require_threshold(threshold, len(dataset.classes), index)
    predictions = _predictions(trained, dataset, index, threshold, devices)
    outlook = Outlook.of(trained.learning_curve, index, len(trained.held_out.get("ids", ())))
    figures = _figures(trained, outlook, predictions, dataset, index)
    report = _report(file_digest(checkpoint_file(checkpoint)), trained, predictions, dataset, index, outlook)
    _save(folder, report, predictions, figures, dataset, trained.history, _findings(dataset, trained, features))
    return report


def _findings(dataset: Dataset, trained: Checkpoint, features: Path | None) -> Findings | None:
    """What an audit finds; None: there are no features, or too many images."""
    if features is None:
        return None
    if (count := sum(sum(of_split.values()) for of_split in dataset.counts.values())) > _MOST_AUDITED:
        logger.warning("Not audited: %d images are more than %d, and every pair is compared.", count, _MOST_AUDITED)
        return None
    return audit(dataset, *learnt_images(dataset, trained, features))


def _report(
    digest: str,
    trained: Checkpoint,
    predictions: Mapping[str, Predictions],
    dataset: Dataset,
    positive: int | None,
    outlook: Outlook | None,
) -> Report:
    return Report(
        checkpoint=digest,
        parameters=sum(values.size for values in trained.parameters.values()),
        positive=None if positive is None else dataset.classes[positive],
        metrics={split: found.metrics(positive) for split, found in predictions.items()},
        confusion={split: found.confusion.tolist() for split, found in predictions.items()},
        caveats=dataset.caveats,
        outlook=outlook.sentence if outlook else "",
        calibration=next(iter(predictions.values())).calibration,
    )


def _save(
    folder: Path,
    report: Report,
    predictions: Mapping[str, Predictions],
    figures: "Mapping[str, Figure]",
    dataset: Dataset,
    history: Sequence[Epoch],
    findings: Findings | None,
) -> None:
    with atomic_folder(folder) as temporary:
        (temporary / METRICS_FILE).write_text(report.model_dump_json(indent=2), encoding="utf-8")
        for split, found in predictions.items():
            save_predictions(predictions_file(temporary, split), found, dataset.classes)
        for name, figure in figures.items():
            save_figure(figure, temporary / f"{name}.png", dataset.caveats)
        if history:
            pq.write_table(history_table(history), temporary / HISTORY_FILE)
        if findings:
            pq.write_table(findings.duplicates, temporary / DUPLICATES_FILE)
            pq.write_table(findings.outliers, temporary / OUTLIERS_FILE)


def _figures(
    trained: Checkpoint,
    outlook: Outlook | None,
    predictions: Mapping[str, Predictions],
    dataset: Dataset,
    positive: int | None,
) -> "dict[str, Figure]":
    """How the network came about, and what it does, as figures by name."""
    confusions = {split: found.confusion for split, found in predictions.items()}
    figures = {
        "confusion": confusion_plot(confusions, dataset.classes),
        "decisions": decision_curves(list(predictions.values())[-1], dataset.classes, positive),
        "examples": image_grid(_examples(predictions, dataset, trained.network.preprocessing)),
    }
    if trained.history:
        figures["curves"] = epoch_curves(trained.history, trained.kept)
    if trained.strength:
        figures["regularisation"] = regularisation_path(trained.path, trained.strength, positive)
    if outlook:
        figures["learning_curve"] = learning_curve(outlook)
    return figures


def _predictions(
    trained: Checkpoint, dataset: Dataset, positive: int | None, aim: str, devices: Devices
) -> dict[str, Predictions]:
    """Predictions on each split but train, or cross-validated ones in the place of those on validation, calibrated."""
    classifier, held_out, found = trained_classifier(trained, devices), _held_out(trained, dataset), {}
    for split in dataset.splits[1:]:
        if split == "validation" and held_out and len(held_out.ids) > sum(dataset.counts["train"].values()):
            found[CROSS_VALIDATION] = held_out
        else:
            found[split] = predict_split(classifier, dataset, split)
    chosen_on = held_out or next(iter(found.values()))
    calibration = calibrate(chosen_on.labels, chosen_on.probabilities, positive, aim)
    return {split: each.calibrated(calibration) for split, each in found.items()}


def _held_out(trained: Checkpoint, dataset: Dataset) -> Predictions | None:
    """Predictions by heads that were solved without the image, of those that they learnt from; None: there are none."""
    ids, names, labels = list[str](), list[str](), list[int]()
    for split in ("train", "validation"):
        split_ids, split_labels = dataset.ids_and_labels(split)
        ids, names, labels = ids + split_ids, names + dataset.names(split), labels + split_labels.tolist()
        if trained.held_out.get("ids", np.array([])).tolist() == ids:
            return Predictions(ids, names, np.array(labels), trained.held_out["probabilities"])
    return None


def predictions_file(report: Path, split: str) -> Path:
    """Where a report's folder keeps the predictions on a split."""
    return report / f"predictions-{split}.parquet"


def read_predictions(report: Path, split: str, classes: Sequence[str]) -> Predictions:
    """The predictions on a split that a report's folder holds."""
    return load_predictions(predictions_file(report, split), classes, Report.open(report).calibration)


def history_table(epochs: Sequence[Epoch]) -> pa.Table:
    """Epochs as a table, an epoch a row; what some do not have is null there.

    >>> history_table([{"epoch": 0}, {"epoch": 1, "train_loss": 0.5}])["train_loss"].to_pylist()
    [None, 0.5]
    """
    names = dict.fromkeys(name for epoch in epochs for name in epoch)
    return pa.table({name: [epoch.get(name) for epoch in epochs] for name in names})


def captioned(
    chosen: Mapping[str, tuple[Predictions, list[int]]],
    dataset: Dataset,
    split: str,
    show: Callable[[Image.Image], Image.Image],
) -> dict[str, Captioned]:
    """Under each name the images of the chosen predictions, as ``show`` makes them, with captions; reads once."""
    wanted = {found.ids[number] for found, numbers in chosen.values() for number in numbers}
    images = {row.id: show(decode(row.data)) for row in dataset.rows(split) if row.id in wanted}
    return {
        name: [(images[found.ids[number]], found.caption(number, dataset.classes)) for number in numbers]
        for name, (found, numbers) in chosen.items()
    }


def _examples(
    predictions: Mapping[str, Predictions], dataset: Dataset, preprocessing: Preprocessing
) -> dict[str, Captioned]:
    """The most confident correct and wrong predictions on the last split there is, as titled rows of crops."""
    split, found = list(predictions.items())[-1]
    titles = {True: f"{split}: correct, most confident", False: f"{split}: wrong, most confident"}
    chosen = {
        title: (found, found.most_confident(correct=correct, count=_EXAMPLES)) for correct, title in titles.items()
    }
    rows = captioned(chosen, dataset, split, lambda image: center_view(image, preprocessing))
    return {title: items for title, items in rows.items() if items}
