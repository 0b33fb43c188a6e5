"""Versions: the published models in a folder, and which of them is the champion."""

import logging
import re
import warnings
from pathlib import Path

import pyarrow.parquet as pq

from cnn.data.datasets import Dataset
from cnn.evaluation.classifier import Classifier
from cnn.publication.manifest import CHAMPION_FILE, MANIFEST_FILE, Champion, Manifest
from cnn.support.backend import CPU, Devices, mx
from cnn.support.errors import UserError
from cnn.support.files import atomic_file, file_digest

logger = logging.getLogger(__name__)

IMAGES_FILE = "images.parquet"
_VERSION = re.compile(r"v\d{4,}")


def version_folders(folder: Path) -> list[Path]:
    """All version folders of a model, readable or not, oldest first."""
    found = [path for path in folder.glob("v*") if _VERSION.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name[1:]))


def versions(folder: Path) -> dict[Path, Manifest]:
    """The published versions of a model with their manifests, oldest first, but for those that cannot be read."""
    found = {}
    for path in version_folders(folder):
        try:
            found[path] = Manifest.open(path)
        except (OSError, ValueError):
            logger.warning("%s: is left out, as its manifest is missing, damaged or of an earlier release", path)
    return found


def champion(folder: Path) -> Path | None:
    """The version that ``champion.json`` names, or None if nothing is published.

    Raises:
        UserError: the file cannot be read or names a version that is not there.
    """
    file = folder / CHAMPION_FILE
    if not file.exists():
        return None
    try:
        entry = Champion.model_validate_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f'{file}: expected {{"version": "v0001", …}}; delete it and publish again.') from error
    version = folder / entry.version
    if not (version / MANIFEST_FILE).exists():
        raise UserError(f"{file}: names {version.name}, which is not there; delete the file and publish again.")
    return version


def intact_champion(folder: Path) -> Path | None:
    """The champion that a candidate has to beat: None if there is none, or none that is intact, which is logged."""
    try:
        best = champion(folder)
    except UserError as error:
        logger.warning("%s", error)
        return None
    if best and not is_intact(best):
        logger.warning("%s was altered since it was published, and is no longer the champion", best)
        return None
    return best


def is_intact(version: Path) -> bool:
    """Whether a version has all the files that its manifest lists, with their digests."""
    try:
        files = Manifest.open(version).files
    except (OSError, ValueError):
        return False
    return all((version / name).exists() and file_digest(version / name) == files[name] for name in files)


def image_ids(version: Path, splits: tuple[str, ...]) -> set[str]:
    """Ids of the images that these splits had when a version was made."""
    return set(pq.read_table(version / IMAGES_FILE, filters=[("split", "in", splits)])["id"].to_pylist())


def new_images(dataset: Dataset, version: Path) -> int:
    """How many images of ``dataset`` a published version was not made from."""
    known = image_ids(version, dataset.splits)
    return sum(id_ not in known for split in dataset.splits for id_ in dataset.ids_and_labels(split)[0])


def promote(version: Path) -> None:
    """Make a version the champion of its folder, in a single step."""
    manifest = Manifest.open(version)
    entry = Champion(
        version=version.name, metrics=manifest.metrics, notes=manifest.lineage.notes, since=manifest.created
    )
    with atomic_file(version.parent / CHAMPION_FILE) as temporary:
        temporary.write_text(entry.model_dump_json(indent=2), encoding="utf-8")


def load_version(version: str | Path, devices: Devices = CPU) -> Classifier:
    """The classifier of a published version, from its symbol: the code of its architecture may have changed since.

    Raises:
        UserError: the folder does not hold a whole version.
    """
    try:
        manifest = Manifest.open(Path(version))
        symbol = next(Path(version).glob("*-symbol.json"))
        parameters = symbol.with_name(symbol.name.replace("-symbol.json", "-0000.params"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Cannot decide type")  # of the input, which only an image has
            net = mx.gluon.SymbolBlock.imports(str(symbol), ["data"], str(parameters), ctx=devices.contexts)
    except (OSError, ValueError, StopIteration, AssertionError, mx.base.MXNetError) as error:
        raise UserError(f"{version}: it is not a whole model version ({error}); publish it again.") from error
    return Classifier(net, manifest.classes, manifest.network.preprocessing, devices)


def find_champion(models: Path, name: str | None = None) -> Path:
    """The champion called ``name``; without a name the only one there is, or ``hotdog``.

    Raises:
        UserError: there is none, or several and no name.
    """
    published = sorted(file.parent.name for file in models.glob(f"*/{CHAMPION_FILE}"))
    if name is None:
        name = published[0] if len(published) == 1 else "hotdog"
    if name not in published:
        found = ", ".join(published) or "nothing; publish one with python flows/hotdog.py"
        raise UserError(f"{models}: no model {name!r} is published there; expected one of: {found}.")
    version = champion(models / name)
    assert version
    return version
