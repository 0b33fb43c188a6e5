"""Publishing: a trained network becomes the next model version, and the champion if it is not worse than the last."""

import shutil
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cnn.data.datasets import Dataset
from cnn.evaluation.comparison import Comparison
from cnn.evaluation.report import Report
from cnn.publication.exports import export_network
from cnn.publication.gate import Candidate, Decision, decide
from cnn.publication.manifest import MANIFEST_FILE, Lineage, Manifest
from cnn.publication.model_card import model_card
from cnn.publication.versions import IMAGES_FILE, intact_champion, is_intact, promote, version_folders, versions
from cnn.support.backend import CPU, Devices
from cnn.support.files import atomic_folder, file_digest, locked
from cnn.training.checkpoints import checkpoint_file, load_checkpoint

MODEL_CARD_FILE = "README.md"
_SOFTWARE = ("mxnet", "mxnet-cu112", "numpy", "pillow", "scikit-image", "pyarrow", "prefect")


def publish(
    *,
    name: str,
    checkpoint: Path,
    report: Path,
    dataset: Dataset,
    lineage: Lineage,
    models: Path,
    devices: Devices = CPU,
) -> Path:
    """Write a network as the next version of the model ``name`` and, if it is not worse, make it the champion.

    A network of which there is an intact version already, with the same comparison, is not published again.

    Args:
        checkpoint: folder of a saved checkpoint.
        report: folder that `cnn.evaluate` (or `compare`) filled for this checkpoint.
        models: folder of all published models.

    Returns:
        The version's folder.

    Raises:
        ValueError: the report is of another checkpoint.
    """
    candidate = Candidate(name, checkpoint, report, dataset, lineage)
    digest = file_digest(checkpoint_file(checkpoint))
    if Report.open(report).checkpoint != digest:
        raise ValueError(f"{report}: is a report of another checkpoint than {checkpoint}")
    with locked(models / name):  # another run may have another candidate
        return _publish(candidate, digest, models / name, devices)


def _publish(candidate: Candidate, digest: str, folder: Path, devices: Devices) -> Path:
    best = intact_champion(folder)
    for version, manifest in versions(folder).items():
        same = (manifest.checkpoint, manifest.lineage.data.digest) == (digest, candidate.lineage.data.digest)
        if same and _accuracies(version) == _accuracies(candidate.report) and is_intact(version):
            break
    else:
        version = _write_version(candidate, folder, digest, decide(candidate, folder, best, devices))
        manifest = Manifest.open(version)
    if best is None or (manifest.promoted and _number(version) > _number(best)):
        promote(version)
    return version


def _number(version: Path) -> int:
    return int(version.name.removeprefix("v"))


def _accuracies(folder: Path) -> dict[str, float]:
    """Accuracy of each architecture of the comparison in a folder; empty if there is none."""
    comparison = Comparison.find(folder)
    return {row.architecture: row.accuracy for row in comparison.rows} if comparison else {}


def _write_version(candidate: Candidate, folder: Path, digest: str, decision: Decision) -> Path:
    number = max(map(_number, version_folders(folder)), default=0) + 1
    version = folder / f"v{number:04d}"
    with atomic_folder(version, existing="refuse") as temporary:
        for file in sorted(candidate.report.iterdir()):
            shutil.copyfile(file, temporary / file.name)
        trained = load_checkpoint(candidate.checkpoint)
        export_network(trained, temporary)
        pq.write_table(_images_table(candidate.dataset), temporary / IMAGES_FILE)
        report = Report.open(candidate.report)
        manifest = Manifest(
            name=candidate.name,
            version=version.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            classes=trained.classes,
            positive=report.positive,
            network=trained.network,
            checkpoint=digest,
            metrics=report.metrics,
            confusion=report.confusion,
            promoted=decision.promoted,
            reason=decision.reason,
            lineage=candidate.lineage,
            software=_software(),
        )
        card = model_card(manifest, Comparison.find(temporary))
        (temporary / MODEL_CARD_FILE).write_text(card, encoding="utf-8")
        files = {file.name: file_digest(file) for file in sorted(temporary.iterdir())}
        manifest = Manifest(**dict(manifest) | {"files": files})
        (temporary / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    return version


def _software() -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for package in _SOFTWARE:
        try:
            found[package] = installed(package)
        except PackageNotFoundError:
            continue
    return found


def _images_table(dataset: Dataset) -> pa.Table:
    """Which images a version was made from: id (of its content), name in the source, split, class."""
    rows = []
    for split in dataset.splits:
        ids, labels = dataset.ids_and_labels(split)
        rows += [
            {"id": id_, "image": name, "split": split, "label": dataset.classes[label]}
            for id_, name, label in zip(ids, dataset.names(split), labels, strict=True)
        ]
    return pa.Table.from_pylist(rows)
