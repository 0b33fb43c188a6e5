"""Differences: two published versions on the images that both have predicted and neither has learnt from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnn.evaluation.paired import PairedComparison, compare_paired
from cnn.evaluation.predictions import Predictions
from cnn.evaluation.report import CROSS_VALIDATION, predictions_file
from cnn.publication.contents import image_ids, unaltered_predictions
from cnn.publication.manifest import Manifest, open_manifest
from cnn.support.errors import UserError


@dataclass(frozen=True)
class Differences:
    """Two versions on one split: ``paired``, whose candidate is the second; a row per image that they answer otherwise.

    Each row has the keys image, label, and the names of the versions, with the class and its probability.
    """

    split: str
    paired: PairedComparison
    rows: list[dict[str, str]]


def compare_versions(first: Path, second: Path) -> Differences:
    """Compare two versions of a model by their predictions files, both judged by the labels of the second.

    Raises:
        UserError: their classes are not the same, a file was altered, or there is no image to compare them on.
    """
    one, other = open_manifest(first), open_manifest(second)
    split = _common_split(one, other)
    known = set[str]() if split == CROSS_VALIDATION else _known(first, split) | _known(second, split)
    before, after = _read(first, split), _read(second, split).without(known)
    after = after.without(set(after.ids) - set(before.ids))
    if not after.ids:
        raise UserError(
            f"{first.name} and {second.name}: there is no {split} image that both predicted and neither learnt from."
        )
    numbers = {id_: number for number, id_ in enumerate(before.ids)}
    order = [numbers[id_] for id_ in after.ids]
    paired = compare_paired(
        after.labels,
        after.predicted,
        before.predicted[order],
        classes=len(other.classes),
        positive=None if other.positive is None else other.classes.index(other.positive),
        figure=other.lineage.chosen_by,
    )
    rows = [
        {
            "image": after.names[number],
            "label": other.classes[after.labels[number]],
            first.name: _answer(before, order[number], other.classes),
            second.name: _answer(after, number, other.classes),
        }
        for number in np.flatnonzero(after.predicted != before.predicted[order])
    ]
    return Differences(split, paired, rows)


def _common_split(one: Manifest, other: Manifest) -> str:
    """The last split that two versions of the same classes have predicted, which is test if there is one.

    Raises:
        UserError: there is none, or they have other classes.
    """
    names = f"{one.version} and {other.version}"
    if one.classes != other.classes:
        raise UserError(
            f"{names}: they have other classes ({', '.join(one.classes)}; {', '.join(other.classes)}) and cannot be "
            "compared."
        )
    splits = [split for split in other.metrics if split in one.metrics]
    if not splits:
        raise UserError(f"{names}: no split was predicted by both; compare versions of one data.")
    return splits[-1]


def _known(version: Path, split: str) -> set[str]:
    """Ids of the images by which a version was made."""
    return image_ids(version, ("train",) if split == "validation" else ("train", "validation"))


def _read(version: Path, split: str) -> Predictions:
    if found := unaltered_predictions(version, split):
        return found
    file = predictions_file(version, split)
    raise UserError(f"{file}: it was altered since {version.name} was published; restore it to compare.")


def _answer(predictions: Predictions, number: int, classes: tuple[str, ...]) -> str:
    """The class that was predicted, with its probability."""
    predicted = predictions.predicted[number]
    return f"{classes[predicted]} {predictions.probabilities[number, predicted]:.0%}"
