"""The gate: whether a candidate may replace the champion, and whether it is of the same model at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnn.data.datasets import Dataset
from cnn.evaluation.predictions import predict_split
from cnn.evaluation.report import Report, read_predictions
from cnn.publication.manifest import Lineage, Manifest
from cnn.publication.versions import image_ids, is_first, load_version, versions
from cnn.support.backend import CPU, Devices
from cnn.support.errors import UserError
from cnn.support.files import file_digest
from cnn.training.checkpoints import checkpoint_file

#: When a candidate becomes the champion: if it is not worse than the present one, or without being compared.
Promotion = Literal["not-worse", "always"]

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


def require_same_source(dataset: Dataset, place: str, best: Path | None, promote: Promotion) -> None:
    """Refuse data that is not what ``best``, the champion, was made from: two sources may have the same name.

    A source at another place is the same if it has the same classes and an image in common: it was moved or copied.

    Args:
        place: what tells the source of ``dataset`` from others (`DataOrigin.place`); empty: it is not compared.

    Raises:
        UserError: asks for another name.
    """
    if best is None or promote == "always":
        return
    manifest = Manifest.open(best)
    former, classes = manifest.lineage.data.place, manifest.classes
    if "" in (former, place) or former == place:
        return
    if dataset.classes != classes:
        found = f"has other classes ({', '.join(dataset.classes)} instead of {', '.join(classes)})"
    elif image_ids(best, dataset.splits).isdisjoint(
        id_ for split in dataset.splits for id_ in dataset.ids_and_labels(split)[0]
    ):
        found = "has not one image in common with it"
    else:
        return
    raise UserError(
        f"name {manifest.name}: the champion {best.name} was made from {former}, and {place} {found}: "
        'give this model another name, or, to replace that one, set promote to "always".'
    )


def decide(
    candidate: Candidate, folder: Path, best: Path | None, promote: Promotion = "not-worse", devices: Devices = CPU
) -> Decision:
    """Whether a candidate may replace ``best``, the champion: only if it is not worse on the same test images.

    Images that the champion learnt from or was chosen by, because another recipe splits otherwise, do not count. Where
    there are no test images, validation images are compared on. If versions were promoted and none of them can answer
    any more, there is nothing to compare with and the candidate is not promoted.
    """
    if promote == "always":
        return Decision(True, "It was promoted without a comparison, as promote is set to always.")
    if best is None:
        return _without_champion(candidate, folder)
    decision = _compare(candidate, best, devices)
    former = Manifest.open(best).lineage.data.place
    if candidate.lineage.data.place in ("", former) or not former:
        return decision
    return Decision(decision.promoted, f"{decision.reason} The data was at {former} when {best.name} was made.")


def _without_champion(candidate: Candidate, folder: Path) -> Decision:
    if is_first(folder):
        return Decision(True, "There was no champion to compare with.")
    network = file_digest(checkpoint_file(candidate.checkpoint))
    for version, manifest in versions(folder).items():
        if manifest.promoted and manifest.checkpoint == network:
            return Decision(True, f"It is the network of {version.name}, whose files were altered since.")
    return Decision(
        False,
        "No version that was promoted is intact, so there is no champion to compare with: restore one, or set promote "
        "to always to make this one the champion.",
    )


def _compare(candidate: Candidate, best: Path, devices: Devices) -> Decision:
    manifest, dataset = Manifest.open(best), candidate.dataset
    if manifest.classes != dataset.classes:
        return Decision(True, f"The classes changed, so {best.name} cannot be compared.")
    split = dataset.splits[-1]
    # validation images count only if neither has anything else that is not learnt from
    is_fair = split == "validation" and "test" not in manifest.metrics
    known = image_ids(best, ("train",) if is_fair else ("train", "validation"))
    predictions = read_predictions(candidate.report, split, dataset.classes).without(known)
    if not predictions.ids:
        return Decision(True, f"{best.name} was made from all of these {split} images, so it cannot be compared.")
    positive, figure = Report.open(candidate.report).positive, candidate.lineage.chosen_by
    index = None if positive is None else dataset.classes.index(positive)
    mine = getattr(predictions.metrics(index), figure)
    if (manifest.lineage.data.digest, manifest.positive) == (candidate.lineage.data.digest, positive):
        theirs = getattr(manifest.metrics[split], figure)
    else:  # its own metrics are of other images or of another class
        theirs_now = predict_split(load_version(best, devices), dataset, split).without(known)
        theirs = getattr(theirs_now.metrics(index), figure)
    compared = f"{split} {_FIGURES[figure]} {mine:.4f} against {theirs:.4f} of {best.name} on the same images"
    if mine >= theirs:
        return Decision(True, f"Not worse than the champion: {compared}.")
    return Decision(False, f"Worse than the champion: {compared}.")
