"""Model versions: one folder each, never edited once published, and a file that names the best of them."""

import json
import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cnn.backend import Device, mx
from cnn.checkpoints import load_checkpoint
from cnn.classifier import CHAMPION_FILE, CLASSES_FILE, MANIFEST_FILE, Classifier
from cnn.comparison import accuracies, comparison_rows
from cnn.datasets import Dataset
from cnn.errors import UserError
from cnn.evaluation import predict_split
from cnn.files import atomic_file, atomic_folder, file_digest, locked
from cnn.hyperparameters import Design
from cnn.model_card import model_card
from cnn.reports import read_predictions

logger = logging.getLogger(__name__)

MODEL_CARD_FILE = "README.md"
_PICTURES_FILE = "pictures.parquet"
_VERSION = re.compile(r"v\d{4,}")
_FIGURES = {"f1": "F1", "accuracy": "accuracy"}
_SOFTWARE = ("numpy", "pillow", "scikit-image", "pyarrow", "prefect")


@dataclass(frozen=True)
class Candidate:
    """A trained network that asks to be published, and what the manifest says of where it comes from.

    ``chosen_by`` is the figure on validation that decides whether it becomes the champion. ``origin`` holds what the
    manifest keeps as it is: data, weights, recipe, seed, device, each with its digest.
    """

    name: str
    design: Design
    checkpoint: Path
    report: Path
    dataset: Dataset
    positive: int | None
    chosen_by: Literal["f1", "accuracy"]
    origin: dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """Whether a version became the champion, and why, as a sentence."""

    promoted: bool
    reason: str


def read_manifest(version: Path) -> dict[str, Any]:
    """A published version's manifest."""
    return json.loads((version / MANIFEST_FILE).read_text())


def versions(folder: Path) -> list[Path]:
    """The published versions in a model's folder, oldest first."""
    found = [path for path in folder.glob("v*") if _VERSION.fullmatch(path.name) and (path / MANIFEST_FILE).exists()]
    return sorted(found, key=lambda path: int(path.name[1:]))


def champion(folder: Path) -> Path | None:
    """The version that ``champion.json`` names, or None if nothing is published.

    Raises:
        UserError: the file names a version that is not there.
    """
    file = folder / CHAMPION_FILE
    if not file.exists():
        return None
    try:
        version = folder / json.loads(file.read_text())["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{file}: expected {{"version": "v0001", …}}; delete it and publish again.') from error
    if not (version / MANIFEST_FILE).exists():
        raise UserError(f"{file}: names {version.name}, which is not there; delete the file and publish again.")
    return version


def is_whole(version: Path) -> bool:
    """Whether a version has all the files that its manifest lists, with their digests."""
    files = read_manifest(version)["files"]
    return all((version / name).exists() and file_digest(version / name) == files[name] for name in files)


def _standing_champion(folder: Path) -> Path | None:
    """The champion that a candidate has to beat: None if there is none, or none that is whole, which is logged."""
    try:
        best = champion(folder)
    except UserError as error:
        logger.warning("%s", error)
        return None
    if best and not is_whole(best):
        logger.warning("%s was altered since it was published, and is the champion no more", best)
        return None
    return best


def publish(candidate: Candidate, models: Path, devices: Sequence[Device]) -> Path:
    """Write a candidate as the next version and, if it is not worse, make it the champion.

    A candidate of which there is a whole version already, come out of the same comparison, is not published again.
    Returns the version's folder.
    """
    with locked(models / candidate.name):  # another run may have another candidate
        return _publish(candidate, models / candidate.name, devices)


def _publish(candidate: Candidate, folder: Path, devices: Sequence[Device]) -> Path:
    digest, best = file_digest(candidate.checkpoint), _standing_champion(folder)
    for version in versions(folder):
        manifest = read_manifest(version)
        same = manifest["checkpoint"] == digest and manifest["data"]["digest"] == candidate.origin["data"]["digest"]
        if same and accuracies(version) == accuracies(candidate.report) and is_whole(version):
            break
    else:
        version = _write_version(candidate, folder, digest, decide(candidate, folder, best, devices))
        manifest = read_manifest(version)
    if best is None or (manifest["promoted"] and versions(folder).index(version) > versions(folder).index(best)):
        promote(version, manifest)
    return version


def _write_version(candidate: Candidate, folder: Path, digest: str, decision: Decision) -> Path:
    number = max((int(path.name[1:]) for path in versions(folder)), default=0) + 1
    version = folder / f"v{number:04d}"
    with atomic_folder(version, existing="refuse") as temporary:
        for file in sorted(candidate.report.iterdir()):
            shutil.copyfile(file, temporary / file.name)
        _write_network(candidate, temporary)
        pq.write_table(_pictures_table(candidate.dataset), temporary / _PICTURES_FILE)
        manifest = _manifest(candidate, version, digest, decision)
        (temporary / MODEL_CARD_FILE).write_text(model_card(manifest, comparison_rows(temporary)))
        manifest["files"] = {file.name: file_digest(file) for file in sorted(temporary.iterdir())}
        (temporary / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2, ensure_ascii=False))
    return version


def _pictures_table(dataset: Dataset) -> pa.Table:
    """Which pictures a version was made from: id (of its content), name in the source, split, class."""
    rows = []
    for split in dataset.splits:
        ids, labels = dataset.ids_and_labels(split)
        rows += [
            {"id": id_, "picture": name, "split": split, "label": dataset.classes[label]}
            for id_, name, label in zip(ids, dataset.names(split), labels, strict=True)
        ]
    return pa.Table.from_pylist(rows)


def _picture_ids(version: Path, splits: Sequence[str]) -> set[str]:
    """Ids of the pictures that these splits had when a version was made."""
    return set(pq.read_table(version / _PICTURES_FILE, filters=[("split", "in", splits)])["id"].to_pylist())


def new_pictures(dataset: Dataset, version: Path) -> int:
    """How many pictures of ``dataset`` a published version was not made from."""
    known = _picture_ids(version, dataset.splits)
    return sum(id_ not in known for split in dataset.splits for id_ in dataset.ids_and_labels(split)[0])


def promote(version: Path, manifest: dict[str, Any]) -> None:
    """Make a version the champion of its folder, in a single step."""
    figures = {name: manifest[name] for name in ("metrics", "notes")}
    entry = {"version": version.name, **figures, "since": manifest["created"]}
    with atomic_file(version.parent / CHAMPION_FILE) as temporary:
        temporary.write_text(json.dumps(entry, indent=2))


def decide(candidate: Candidate, folder: Path, best: Path | None, devices: Sequence[Device]) -> Decision:
    """Whether a candidate may replace ``best``, the champion: only if not worse on the same validation pictures.

    Pictures that the champion learnt from, because another recipe splits otherwise, do not count.
    """
    if best is None:
        is_first = not (folder / CHAMPION_FILE).exists()
        return Decision(True, f"There was no champion to compare with{'' if is_first else ' that is whole'}.")
    manifest = read_manifest(best)
    if manifest["classes"] != list(candidate.dataset.classes):
        return Decision(True, f"The classes changed, so {best.name} cannot be compared.")
    figure, dataset, learnt = candidate.chosen_by, candidate.dataset, _picture_ids(best, ["train"])
    answers = read_predictions(candidate.report, "validation", dataset.classes).without(learnt)
    if not answers.ids:
        return Decision(True, f"{best.name} learnt from all of these validation pictures, so it cannot be compared.")
    mine = answers.scores(candidate.positive)[figure]
    if (manifest["data"]["digest"], manifest["positive"]) == (candidate.origin["data"]["digest"], _positive(candidate)):
        theirs = manifest["metrics"]["validation"][figure]
    else:  # its own figure rests on other pictures or is about another class
        answers = predict_split(Classifier.load(best, devices), dataset, "validation").without(learnt)
        theirs = answers.scores(candidate.positive)[figure]
    compared = f"validation {_FIGURES[figure]} {mine:.4f} against {theirs:.4f} of {best.name} on the same pictures"
    if mine >= theirs:
        return Decision(True, f"Not worse than the champion: {compared}.")
    return Decision(False, f"Worse than the champion: {compared}.")


def _positive(candidate: Candidate) -> str | None:
    return None if candidate.positive is None else candidate.dataset.classes[candidate.positive]


def _write_network(candidate: Candidate, folder: Path) -> None:
    """The network as Gluon parameters, as symbol with parameters, and as ONNX with any batch size."""
    classes, design, side = candidate.dataset.classes, candidate.design, candidate.design.input.crop
    values = load_checkpoint(candidate.checkpoint).parameters
    arrays = {name: mx.nd.array(each) for name, each in values.items()}
    mx.nd.save(str(folder / f"{design.architecture}.params"), arrays)
    net = Classifier.build(design, values, classes, [mx.cpu()]).net
    (folder / CLASSES_FILE).write_text(json.dumps(list(classes), ensure_ascii=False))
    net(mx.nd.zeros((1, 3, side, side)))
    net.export(str(folder / design.architecture))
    mx.onnx.export_model(
        str(folder / f"{design.architecture}-symbol.json"),
        str(folder / f"{design.architecture}-0000.params"),
        [(1, 3, side, side)],
        [np.float32],
        str(folder / f"{design.architecture}.onnx"),
        dynamic=True,
        dynamic_input_shapes=[("batch", 3, side, side)],
    )


def _manifest(candidate: Candidate, version: Path, digest: str, decision: Decision) -> dict[str, Any]:
    report = json.loads((candidate.report / "metrics.json").read_text())
    return {
        "name": candidate.name,
        "version": version.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": list(candidate.dataset.classes),
        "positive": _positive(candidate),
        "metrics": report["metrics"],
        "confusion": report["confusion"],
        "promoted": decision.promoted,
        "why": decision.reason,
        **candidate.origin,
        "checkpoint": digest,
        **candidate.design.model_dump(mode="json"),
        "software": {"mxnet": mx.__version__, **{package: installed(package) for package in _SOFTWARE}},
    }
