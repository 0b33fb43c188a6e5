"""Versions: the published models in a folder, which of their files are as they were published, and loading one."""

import logging
import re
import warnings
from contextlib import suppress
from itertools import count
from pathlib import Path

import pyarrow.parquet as pq

from cnn.data.datasets import Dataset
from cnn.evaluation.classifier import Classifier
from cnn.evaluation.predictions import Predictions
from cnn.evaluation.report import predictions_file, read_predictions
from cnn.networks.running import Runner
from cnn.publication.exports import CLASSES_FILE, NOVELTY_FILE, network_files
from cnn.publication.manifest import CHAMPION_FILE, MAX_BYTES, Champion, DamagedManifestError, Manifest
from cnn.support.backend import CPU, Devices, mx
from cnn.support.errors import UserError
from cnn.support.files import file_digest, read_file
from cnn.training.novelty import Novelty

logger = logging.getLogger(__name__)

IMAGES_FILE = "images.parquet"
_VERSION = re.compile(r"v(\d{4,})")
_DAMAGED = "damaged-"  # how the names of folders begin that were set aside
_ADVICE = "it is not loaded: restore the file or publish the model again."
_NUMBERED = re.compile(rf"(?:{_DAMAGED})?v(\d{{4,}})(?:-\d+)?")


def version_number(version: Path) -> int:
    """Number of a version's folder.

    >>> version_number(Path("artifacts/hotdog/v0012"))
    12
    """
    return int(version.name.removeprefix("v"))


def version_folders(folder: Path) -> list[Path]:
    """All version folders of a model, readable or not, oldest first."""
    found = [path for path in folder.glob("v*") if _VERSION.fullmatch(path.name)]
    return sorted(found, key=version_number)


def next_version(folder: Path) -> Path:
    """The folder of the next version; the number of one that was set aside, or of a lost champion, is not reused."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if CHAMPION_FILE in names:
        with suppress(ValueError, OSError):
            names.append(Champion.model_validate_json(read_file(folder / CHAMPION_FILE, MAX_BYTES)).version)
    used = [int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name))]
    return folder / f"v{max(used, default=0) + 1:04d}"


def is_first(folder: Path) -> bool:
    """Whether nothing was ever published in a model's folder, as far as can be seen."""
    return next_version(folder).name == "v0001" and not (folder / CHAMPION_FILE).exists()


def versions(folder: Path) -> dict[Path, Manifest]:
    """The published versions of a model with their manifests, oldest first, but for those that cannot be read."""
    found = {}
    for path in version_folders(folder):
        try:
            found[path] = Manifest.open(path)
        except DamagedManifestError as error:
            logger.warning("%s: is left out, as %s", path, error)
        except ValueError:
            logger.warning("%s: is left out, as its manifest is of another release of this project", path)
    return found


def set_aside_damaged(folder: Path) -> None:
    """Rename the version folders whose manifest is missing or damaged, and say so; nothing is deleted."""
    for path in version_folders(folder):
        try:
            Manifest.open(path)
        except DamagedManifestError as error:
            names = (f"{_DAMAGED}{path.name}{f'-{number}' if number else ''}" for number in count())
            aside = next(folder / name for name in names if not (folder / name).exists())
            path.rename(aside)
            logger.warning("%s: %s; it is set aside as %s and no longer a version", path, error, aside.name)
        except ValueError:
            pass  # of another release: it stays, and `versions` says that it is left out


def altered_files(version: Path, manifest: Manifest) -> list[str]:
    """Names of the files that are gone or are not as the manifest of their version lists them."""
    return [
        name
        for name, digest in manifest.files.items()
        if not (version / name).is_file() or file_digest(version / name) != digest
    ]


def answering_files(manifest: Manifest) -> tuple[str, ...]:
    """Names of the files by which a version classifies: symbol, parameters, ONNX, class names, what it knows."""
    known = {NOVELTY_FILE} & manifest.files.keys()
    return (*network_files(manifest.network.architecture), CLASSES_FILE, *known)


def is_intact(version: Path) -> bool:
    """Whether a version has all the files that its manifest lists, with their digests."""
    try:
        manifest = Manifest.open(version)
    except ValueError:
        return False
    return set(answering_files(manifest)) <= set(manifest.files) and not altered_files(version, manifest)


def can_answer(version: Path) -> bool:
    """Whether a version's manifest, network and class names are as they were published; other files do not count."""
    try:
        _verify(version)
    except UserError:
        return False
    return True


def open_version(version: Path) -> Manifest:
    """The manifest of a version that is to be used.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return Manifest.open(version)
    except ValueError as error:
        reason = error if isinstance(error, DamagedManifestError) else "its manifest is of another release"
        raise UserError(f"{version}: it is not a whole model version, as {reason}; {_ADVICE}") from error


def _verify(version: Path) -> Manifest:
    """The manifest of a version that can answer; other files that were altered are logged.

    Raises:
        UserError: names the file that is missing or was altered.
    """
    manifest, advice = open_version(version), _ADVICE
    altered = altered_files(version, manifest)
    for name in answering_files(manifest):
        if not (version / name).is_file():
            raise UserError(f"{version}: it is not a whole model version, as its file {name} is missing; {advice}")
        if name in altered or name not in manifest.files:
            raise UserError(f"{version / name}: it was altered since {version.name} was published; {advice}")
    if altered:
        logger.warning("%s: altered or deleted since it was published: %s", version, ", ".join(altered))
    return manifest


def load_version(version: str | Path, devices: Devices = CPU) -> Classifier:
    """The classifier of a published version, whatever has become of the code of its architecture since.

    On a CPU it answers by its ONNX file, without MXNet. Its files are compared with its manifest before anything is
    loaded.

    Raises:
        UserError: the folder does not hold a whole version; names the file that was altered.
    """
    version = Path(version)
    return open_classifier(version, _verify(version), devices)


def open_classifier(version: Path, manifest: Manifest, devices: Devices = CPU) -> Classifier:
    """The classifier of a version whose files are known to be its own."""
    symbol, parameters, onnx = (version / name for name in network_files(manifest.network.architecture))
    side = manifest.network.preprocessing.crop
    if devices == CPU:
        network = Runner.of_onnx(onnx, side)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Cannot decide type")  # of the input, which only an image has
            net = mx.gluon.SymbolBlock.imports(str(symbol), ["data"], str(parameters), ctx=devices.contexts)
        network = Runner(net, side, devices)
    novelty = Novelty.load(version / NOVELTY_FILE) if devices == CPU and NOVELTY_FILE in manifest.files else None
    return Classifier(network, manifest.classes, manifest.network.preprocessing, manifest.calibration, novelty)


def unaltered_predictions(version: Path, split: str) -> Predictions | None:
    """The predictions on a split that a version was published with; None if there are none or they were altered."""
    manifest, name = Manifest.open(version), predictions_file(version, split).name
    if name not in manifest.files or name in altered_files(version, manifest):
        return None
    return read_predictions(version, split, manifest.classes)


def image_ids(version: Path, splits: tuple[str, ...]) -> set[str]:
    """Ids of the images that these splits had when a version was made; none, and a warning, if its list was altered."""
    file = version / IMAGES_FILE
    if not file.is_file() or file_digest(file) != Manifest.open(version).files.get(IMAGES_FILE):
        logger.warning("%s: missing or altered, so it is not known which images %s was made from", file, version.name)
        return set()
    return set(pq.read_table(file, filters=[("split", "in", splits)])["id"].to_pylist())


def new_images(dataset: Dataset, version: Path) -> int:
    """How many images of ``dataset`` a published version was not made from."""
    known = image_ids(version, dataset.splits)
    return sum(id_ not in known for split in dataset.splits for id_ in dataset.ids_and_labels(split)[0])
