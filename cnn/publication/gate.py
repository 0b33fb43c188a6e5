"""The gate: whether a candidate may replace the champion."""

from dataclasses import dataclass
from pathlib import Path

from cnn.data.datasets import Dataset
from cnn.evaluation.predictions import predict_split
from cnn.evaluation.report import Report, read_predictions
from cnn.publication.manifest import CHAMPION_FILE, Lineage, Manifest
from cnn.publication.versions import image_ids, load_version
from cnn.support.backend import CPU, Devices

_FIGURES = {"f1": "F1", "accuracy": "accuracy"}


@dataclass(frozen=True)
class Candidate:
    """A trained network that may be published: folders of its checkpoint and report, its dataset, its lineage."""

    name: str
    checkpoint: Path
    report: Path
    dataset: Dataset
    lineage: Lineage


@dataclass(frozen=True)
class Decision:
    """Whether a version became the champion, and why, as a sentence."""

    promoted: bool
    reason: str


def decide(candidate: Candidate, folder: Path, best: Path | None, devices: Devices = CPU) -> Decision:
    """Whether a candidate may replace ``best``, the champion: only if it is not worse on the same validation images.

    Images that the champion was trained on, because another recipe splits otherwise, do not count.
    """
    if best is None:
        is_first = not (folder / CHAMPION_FILE).exists()
        return Decision(True, f"There was no {'' if is_first else 'intact '}champion to compare with.")
    manifest, dataset = Manifest.open(best), candidate.dataset
    if manifest.classes != dataset.classes:
        return Decision(True, f"The classes changed, so {best.name} cannot be compared.")
    trained_on = image_ids(best, ("train",))
    predictions = read_predictions(candidate.report, "validation", dataset.classes).without(trained_on)
    if not predictions.ids:
        return Decision(True, f"{best.name} was trained on all of these validation images, so it cannot be compared.")
    positive, figure = Report.open(candidate.report).positive, candidate.lineage.chosen_by
    index = None if positive is None else dataset.classes.index(positive)
    mine = getattr(predictions.metrics(index), figure)
    if (manifest.lineage.data.digest, manifest.positive) == (candidate.lineage.data.digest, positive):
        theirs = getattr(manifest.metrics["validation"], figure)
    else:  # its own metrics are of other images or of another class
        theirs_now = predict_split(load_version(best, devices), dataset, "validation").without(trained_on)
        theirs = getattr(theirs_now.metrics(index), figure)
    compared = f"validation {_FIGURES[figure]} {mine:.4f} against {theirs:.4f} of {best.name} on the same images"
    if mine >= theirs:
        return Decision(True, f"Not worse than the champion: {compared}.")
    return Decision(False, f"Worse than the champion: {compared}.")
