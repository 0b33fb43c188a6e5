"""Versions: the published models in a folder, which of their files are as they were published, and loading one."""

import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from cnn.data.images import Preprocessing
from cnn.evaluation.answers import Calibration, softmax
from cnn.evaluation.classifier import Classifier
from cnn.networks.sessions import PROBABILITIES, Provider, Session
from cnn.publication.exchange import claim
from cnn.publication.records import (
    CHAMPION_FILE,
    CLASSES_FILE,
    MANIFEST_FILE,
    NOVELTY_FILE,
    Champion,
    DamagedManifestError,
    integer_file,
    network_files,
    read_manifest,
)
from cnn.support import remote
from cnn.support.errors import UserError
from cnn.support.objects import TOGETHER
from cnn.support.parallel import ordered_map
from cnn.training.novelty import Novelty

logger = logging.getLogger(__name__)

_VERSION = re.compile(r"v(\d{4,})")
_DAMAGED = "damaged-"  # how the names of folders begin that were set aside
_ADVICE = "it is not loaded: restore the file or publish the model again."
_NUMBERED = re.compile(rf"(?:{_DAMAGED})?v(\d{{4,}})(?:-\d+)?")


class NotWholeError(UserError):
    """A file of a version is missing or was altered, and is not merely out of reach."""


def version_number(version: Path) -> int:
    """Number of a version's folder.

    >>> version_number(Path("artifacts/hotdog/v0012"))
    12
    """
    return int(version.name.removeprefix("v"))


def version_folders(folder: Path) -> list[Path]:
    """All version folders of a model, readable or not, oldest first; at an address, those that have a manifest."""
    found = [folder / name for name in remote.children(folder) if _VERSION.fullmatch(name)]
    published = zip(found, ordered_map(_is_published, found, threads=TOGETHER), strict=True)
    return sorted((path for path, is_published in published if is_published), key=version_number)


def _is_published(version: Path) -> bool:
    """Whether a version was put whole, not only begun by another machine, nor withdrawn; its manifest is here then."""
    if remote.address_of(version) is None:
        return True
    remote.refresh(version / MANIFEST_FILE)
    return (version / MANIFEST_FILE).exists()


def next_version(folder: Path) -> Path:
    """The folder of the next version; the number of one that was set aside, or of a lost champion, is not reused."""
    names = [*remote.children(folder)]
    if CHAMPION_FILE in names:
        with suppress(ValueError, OSError):
            names.append(Champion.read(folder).version)
    used = [int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name))]
    return folder / f"v{max(used, default=0) + 1:04d}"


def is_first(folder: Path) -> bool:
    """Whether nothing was ever published in a model's folder, as far as can be seen."""
    kept = (name for name in remote.children(folder) if name.startswith(_DAMAGED) or name == CHAMPION_FILE)
    return not (version_folders(folder) or any(kept))


def claim_version(folder: Path) -> Path:
    """As `next_version`; at an address no other machine gets the same."""
    while not claim(version := next_version(folder)):
        continue
    if remote.address_of(version):  # what is still here is of a version that is gone there
        shutil.rmtree(version, ignore_errors=True)
    return version


def set_aside_damaged(folder: Path) -> None:
    """Rename the version folders whose manifest is missing or damaged, and say so; nothing is deleted.

    At an address they keep their names, as nothing can be renamed in one step there.
    """
    if remote.address_of(folder):
        return
    for path in version_folders(folder):
        try:
            read_manifest(path)
        except DamagedManifestError as error:
            names = (f"{_DAMAGED}{path.name}{f'-{number}' if number else ''}" for number in count())
            aside = next(folder / name for name in names if not (folder / name).exists())
            path.rename(aside)
            logger.warning("%s: %s; it is set aside as %s and no longer a version", path, error, aside.name)


def altered_files(version: Path, files: Mapping[str, str]) -> list[str]:
    """Names of those files, listed with their SHA-256, that a version no longer has as they were published.

    Those at an address are here afterwards.
    """
    return [name for name, digest in files.items() if not remote.has(version / name, digest)]


def not_whole(version: Path, error: ValueError) -> NotWholeError:
    """What is said of a version whose manifest cannot be used."""
    reason = error if isinstance(error, DamagedManifestError) else "its manifest is of another release"
    return NotWholeError(f"{version}: it is not a whole model version, as {reason}; {_ADVICE}")


class Served(NamedTuple):
    """What a version answers with, as its manifest says.

    Attributes:
        facts: all that the manifest says.
        onnx: name of the file that answers.
        names: of all files without which it does not answer.
    """

    facts: dict[str, Any]
    onnx: str
    names: tuple[str, ...]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    calibration: Calibration

    @classmethod
    def open(cls, version: Path) -> Self:
        """What the manifest of a version says.

        Raises:
            ValueError: it is damaged, or of another release.
        """
        return cls.of(read_manifest(version))

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Self:
        """What a manifest says; raises as `open` does, unless it is damaged."""
        try:
            network = facts["network"]
            files = network_files(network["architecture"])
            optional = {NOVELTY_FILE, integer_file(network["architecture"])} & facts["files"].keys()
            names = (*files, CLASSES_FILE, *sorted(optional))
            calibration = Calibration(**facts.get("calibration", {}))
            classes, preprocessing = tuple(facts["classes"]), Preprocessing(**network["preprocessing"])
            return cls(facts, files[-1], names, classes, preprocessing, calibration)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("another release") from error


def is_intact(version: Path) -> bool:
    """Whether a version has all the files that its manifest lists, with their digests."""
    try:
        served = Served.open(version)
    except ValueError:
        return False
    files = served.facts["files"]
    return set(served.names) <= files.keys() and not altered_files(version, files)


def can_answer(version: Path) -> bool:
    """Whether a version's manifest and network are as they were published; other files do not count.

    Raises:
        UserError: this cannot be known, as object storage does not answer or denies access.
    """
    try:
        verified(version)
    except NotWholeError:
        return False
    return True


def verified(version: Path) -> Served:
    """What a version that can answer does so with; other files that were altered are logged.

    Raises:
        NotWholeError: names the file that is missing or was altered.
    """
    remote.refresh(version / MANIFEST_FILE)
    try:
        served = Served.open(version)
    except ValueError as error:
        raise not_whole(version, error) from error
    files = served.facts["files"]
    altered = altered_files(version, files)
    for name in served.names:
        if not (version / name).is_file():
            raise NotWholeError(f"{version}: it is not a whole model version, as its file {name} is missing; {_ADVICE}")
        if name in altered or name not in files:
            raise NotWholeError(f"{version / name}: it was altered since {version.name} was published; {_ADVICE}")
    if altered:
        logger.warning("%s: altered or deleted since it was published: %s", version, ", ".join(altered))
    return served


def load_version(version: str | Path) -> Classifier:
    """The classifier of a published version; MXNet is not needed.

    Its files are compared with its manifest before anything is loaded.

    Raises:
        UserError: the folder does not hold a whole version; names the file that was altered.
    """
    return open_classifier(Path(version), verified(Path(version)))


def open_classifier(version: Path, served: Served, provider: Provider = "cpu", int8: bool = False) -> Classifier:
    """The classifier of a version whose files are known to be its own; with ``int8`` it computes in integers.

    Raises:
        UserError: the provider cannot be used, or the version has no network in integers.
    """
    file = integer_file(served.facts["network"]["architecture"]) if int8 else served.onnx
    if int8 and file not in served.names:
        why = "its F1 was lower" if served.facts.get("integers") else "it was published without --int8"
        raise UserError(f"{version}: it has no {file}, as {why}: answer without --int8, or by another version.")
    session = Session(version / file, provider)
    network = session if session.names[0] == PROBABILITIES else _OfLogits(session, served.calibration)
    novelty = Novelty.load(version / NOVELTY_FILE) if NOVELTY_FILE in served.names else None
    return Classifier(network, served.classes, served.preprocessing, served.calibration, novelty)


class _OfLogits:
    """A network of an earlier release, whose ONNX gives logits."""

    def __init__(self, session: Session, calibration: Calibration) -> None:
        self._session, self._calibration = session, calibration

    def all_outputs(self, inputs: Iterable[NDArray[np.float32]]) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """As `Session.all_outputs`, with calibrated probabilities in the place of logits."""
        for logits, *others in self._session.all_outputs(inputs):
            yield self._calibration.apply(softmax(logits)), *others
