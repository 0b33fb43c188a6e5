"""Publishing: a trained network becomes the next model version, and the champion if it is not worse than the last."""

import logging
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.evaluation.comparison import Comparison
from cnn.evaluation.drift import look
from cnn.evaluation.report import Report
from cnn.publication.agreement import differences
from cnn.publication.champions import changing, is_due, restore_champion
from cnn.publication.champions import promote as make_champion
from cnn.publication.exchange import put_folder, withdraw
from cnn.publication.exports import export_network
from cnn.publication.gate import MARGIN, Candidate, Decision, Promotion, decide, require_same_source
from cnn.publication.integers import write_integers
from cnn.publication.manifest import Integers, Lineage, Manifest, is_readable, versions
from cnn.publication.model_card import model_card
from cnn.publication.records import IMAGES_FILE, MANIFEST_FILE, REPORT_PAGE, integer_file, network_files
from cnn.publication.report_page import report_page
from cnn.publication.versions import Served, claim_version, is_intact, open_classifier, set_aside_damaged
from cnn.support.files import atomic_folder, file_digest
from cnn.support.objects import ConflictError
from cnn.support.parallel import ordered_map
from cnn.training.checkpoints import Checkpoint, checkpoint_file, load_checkpoint

logger = logging.getLogger(__name__)

MODEL_CARD_FILE = "README.md"
_COMPARED = 8  # images on which the files of a version are compared with MXNet
_SOFTWARE = (
    "mxnet",
    "mxnet-cu112",
    "onnxruntime",
    "onnxruntime-gpu",
    "scikit-learn",
    "numpy",
    "pillow",
    "scikit-image",
    "pyarrow",
    "prefect",
)


def publish(
    *,
    name: str,
    checkpoint: Path,
    report: Path,
    dataset: Dataset,
    lineage: Lineage,
    models: Path,
    promote: Promotion = "not-worse",
    margin: float = MARGIN,
    int8: bool = False,
    durations: Mapping[str, float] | None = None,
) -> Path:
    """Write a network as the next version of the model ``name`` and, if the rule permits it, make it the champion.

    A network of which there is an intact version already, with the same calibration and comparison, is not published
    again. What was damaged in the model's folder is set aside or, for ``champion.json``, restored, and that is logged.

    Args:
        checkpoint: folder of a saved checkpoint.
        report: folder that `cnn.evaluate` (or `compare`) filled for this checkpoint.
        models: folder of all published models.
        promote, margin: the rule, see `cnn.publication.gate.permits`; ``"always"`` makes it the champion without a
            comparison, also where no intact champion is left.
        int8: whether a new version also gets its network in integers, if that answers as well.
        durations: seconds of the steps that led to it, by their names, for its manifest and page.

    Returns:
        The version's folder.

    Raises:
        ValueError: the report is of another checkpoint.
        UserError: the model ``name`` is of other data, unless ``promote`` is ``"always"``.
    """
    candidate = Candidate(name, checkpoint, report, dataset, lineage, durations or {}, int8)
    digest = file_digest(checkpoint_file(checkpoint))
    if Report.open(report).checkpoint != digest:
        raise ValueError(f"{report}: is a report of another checkpoint than {checkpoint}")
    return _publish(candidate, digest, models / name, promote, margin)


def _publish(candidate: Candidate, digest: str, folder: Path, promote: Promotion, margin: float) -> Path:
    """Publish, and again whenever another machine has replaced the champion before the gate's decision was carried out.

    Each time one of the machines succeeds.
    """
    while True:
        try:
            with changing(folder):  # another run may have another candidate
                return _publish_once(candidate, digest, folder, promote, margin)
        except ConflictError:
            logger.info("%s: another machine has replaced the champion; the gate is asked again.", folder)


def _publish_once(candidate: Candidate, digest: str, folder: Path, promote: Promotion, margin: float) -> Path:
    set_aside_damaged(folder)
    best = restore_champion(folder)
    version = _published_before(candidate, digest, folder, promote, margin)
    if version is None:
        require_same_source(candidate.dataset, candidate.lineage.data.place, best, promote)
        decision = decide(candidate, folder, best, promote, margin)
        version = _write_version(candidate, folder, digest, decision, best if best and is_readable(best) else None)
        if decision.promoted:
            _make_champion_or_withdraw(version)
    elif promote == "always" or is_due(version):
        make_champion(version)
    return version


def _make_champion_or_withdraw(version: Path) -> None:
    """Make a version that was just written the champion; if it was compared with a former one, it is none any more."""
    try:
        make_champion(version)
    except ConflictError:
        withdraw(version, MANIFEST_FILE)
        shutil.rmtree(version)
        raise


def _published_before(
    candidate: Candidate, digest: str, folder: Path, promote: Promotion, margin: float
) -> Path | None:
    """The intact version of the same network, data, calibration and comparison, judged by the same rule, if any."""
    made_from = (digest, candidate.lineage.data.digest, Report.open(candidate.report).calibration)
    for version, manifest in versions(folder).items():
        same = (manifest.checkpoint, manifest.lineage.data.digest, manifest.calibration) == made_from
        judged = (manifest.judgement.rule, manifest.judgement.margin) if manifest.judgement else (promote, margin)
        # what a version says of itself is never edited
        wanted = manifest.promoted or (promote != "always" and judged == (promote, margin))
        wanted = wanted and (manifest.integers is not None or not candidate.int8)
        if same and wanted and is_intact(version) and _accuracies(version) == _accuracies(candidate.report):
            return version
    return None


def _accuracies(folder: Path) -> dict[str, float]:
    """Accuracy of each architecture of the comparison in a folder; empty if there is none."""
    comparison = Comparison.find(folder)
    return {row.architecture: row.accuracy for row in comparison.rows} if comparison else {}


def _write_version(candidate: Candidate, folder: Path, digest: str, decision: Decision, best: Path | None) -> Path:
    version = claim_version(folder)
    with atomic_folder(version, existing="refuse") as temporary:
        for file in sorted(candidate.report.iterdir()):
            shutil.copyfile(file, temporary / file.name)
        trained, report = load_checkpoint(candidate.checkpoint), Report.open(candidate.report)
        export_network(trained, temporary, report.calibration)
        pq.write_table(_images_table(candidate.dataset), temporary / IMAGES_FILE)
        some = candidate.dataset.some_rows(candidate.dataset.splits[-1], _COMPARED)
        images = [decode(row.data) for row in some]
        manifest = Manifest(
            name=candidate.name,
            version=version.name,
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
            classes=trained.classes,
            positive=report.positive,
            network=trained.network,
            checkpoint=digest,
            metrics=report.metrics,
            confusion=report.confusion,
            promoted=decision.promoted,
            reason=decision.reason,
            judgement=decision.judgement,
            outlook=report.outlook,
            calibration=report.calibration,
            lineage=candidate.lineage,
            durations=dict(candidate.durations),
            differences=differences(temporary, trained, report.calibration, images),
            integers=_integers(candidate, temporary, trained, report) if candidate.int8 else None,
            software=_software(),
            files=_digests(temporary),
        )
        card = model_card(manifest, Comparison.find(temporary))
        (temporary / MODEL_CARD_FILE).write_text(card, encoding="utf-8")
        classifier = open_classifier(temporary, Served.of(manifest.model_dump(mode="json")))
        page = report_page(manifest, temporary, candidate.dataset, classifier, best)
        (temporary / REPORT_PAGE).write_text(page, encoding="utf-8")
        manifest.model_copy(update={"files": _digests(temporary)}).save(temporary)
        put_folder(temporary, version, last=MANIFEST_FILE)
    return version


def _integers(candidate: Candidate, folder: Path, trained: Checkpoint, report: Report) -> Integers:
    """Write the file in integers into a version's folder, if it answers as well."""
    architecture, preprocessing = trained.network.architecture, trained.network.preprocessing
    full, path = folder / network_files(architecture)[-1], folder / integer_file(architecture)
    positive = None if report.positive is None else trained.classes.index(report.positive)
    return write_integers(full, path, candidate.dataset, preprocessing, report.calibration, positive)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder."""
    return {file.name: file_digest(file) for file in sorted(folder.iterdir())}


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
    """Which images a version was made from: id (of its content), name in the source, split, class, how they look."""
    rows = []
    for split in dataset.splits:
        looks = ordered_map(lambda row: look(row.data), dataset.rows(split))
        rows += [
            {"id": id_, "image": name, "split": split, "label": dataset.classes[label], **of_image}
            for id_, label, name, of_image in zip(
                *dataset.ids_and_labels(split), dataset.names(split), looks, strict=True
            )
        ]
    return pa.Table.from_pylist(rows)
