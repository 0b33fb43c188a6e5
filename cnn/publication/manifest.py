"""Manifests: what a model version is and where it comes from, as its ``manifest.json`` says it."""

import json
import logging
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from cnn.data.datasets import Dataset
from cnn.evaluation.answers import UNCALIBRATED, Calibration
from cnn.evaluation.metrics import Metrics
from cnn.evaluation.paired import PairedComparison
from cnn.networks.architectures import NetworkConfig
from cnn.publication.records import CHECKSUM, MANIFEST_FILE, DamagedManifestError, content_checksum, read_manifest
from cnn.publication.versions import not_whole, version_folders
from cnn.support.backend import CPU, Devices
from cnn.support.references import Reference
from cnn.support.text import printable
from cnn.training.hyperparameters import Recipe

logger = logging.getLogger(__name__)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class DataOrigin(_Record):
    """The dataset: name of its source, digest of its content, images of each split and class, what was left out.

    ``place`` tells sources of one name apart: an absolute path, or a name in the catalog. It and ``licence`` are empty
    if they are unknown.
    """

    source: str
    place: str = ""
    digest: str
    counts: dict[str, dict[str, int]]
    split_origin: str
    left_out: int
    duplicates: int
    licence: str = ""


class WeightsOrigin(_Record):
    """The weights at the start: name and SHA-256 of their file, and its licence, empty if that is unknown."""

    source: str
    digest: str
    licence: str = ""


class Lineage(_Record):
    """Where a model comes from: data, weights (None: random ones), recipe, random seed, devices, and what to note."""

    data: DataOrigin
    weights: WeightsOrigin | None
    recipe: str
    stages: tuple[dict[str, Any], ...]
    seed: int
    device: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        recipe: Recipe[Any],
        *,
        source: str,
        place: str = "",
        weights: Reference | None = None,
        seed: int = 0,
        devices: Devices = CPU,
        notes: tuple[str, ...] = (),
        licence: str = "",
    ) -> Self:
        """The lineage of a model that ``recipe`` trained on ``dataset``; repeats the notes of data and weights.

        ``source``, ``place`` and ``licence`` are the data's.
        """
        data = DataOrigin(
            source=printable(source),
            place=printable(place),
            digest=dataset.digest(),
            counts=dataset.counts,
            split_origin=dataset.split_origin,
            left_out=len(dataset.left_out),
            duplicates=len(dataset.duplicates),
            licence=licence,
        )
        return cls(
            data=data,
            weights=weights and WeightsOrigin(source=weights.path.name, digest=weights.digest, licence=weights.licence),
            recipe=recipe.name,
            stages=tuple(stage.model_dump(mode="json") for stage in recipe.stages),
            seed=seed,
            device=devices.names,
            notes=(*notes, *(weights.notes if weights else ()), *dataset.caveats),
        )

    @property
    def chosen_by(self) -> Literal["f1", "accuracy"]:
        """The metric by which champions are compared, and by which the last stage chose, if it has epochs."""
        return self.stages[-1]["chosen_by"]


class Judgement(_Record):
    """By what a candidate was judged: which champion and split it was compared with and on, the rule, the figures."""

    champion: str
    split: str
    rule: Literal["not-worse", "better", "never"]
    margin: float
    paired: PairedComparison


class Integers(_Record):
    """What came of the network in integers of 8 bits, beside the one of full precision.

    Attributes:
        images: how many both answered, none of them of test.
        f1: its F1, and ``full_f1`` the other's.
        speedup: its images a second on one core divided by the other's, on the machine that published it.
        bytes: size of its file.
        kept: whether the version holds it: not if its F1 is lower by more than half a point.
    """

    images: int
    f1: float
    full_f1: float
    speedup: float
    bytes: int
    kept: bool


class Manifest(_Record):
    """Everything known of a model version.

    ``judgement`` is None if it was not compared with a champion; ``outlook`` says whether more images would help, if
    that is known; ``calibration`` makes its answers from the network's probabilities; ``durations`` are the seconds of
    the steps that ran; ``differences`` are by how much the probabilities of its files differ from MXNet's at most, on
    some images of its data; ``integers`` is None if that file was not asked for; ``files`` holds the SHA-256 of each of
    its files.
    """

    name: str
    version: str
    created: str
    classes: tuple[str, ...]
    positive: str | None
    network: NetworkConfig
    checkpoint: str
    metrics: dict[str, Metrics]
    confusion: dict[str, list[list[int]]]
    promoted: bool
    reason: str
    judgement: Judgement | None = None
    outlook: str = ""
    calibration: Calibration = UNCALIBRATED
    lineage: Lineage
    durations: dict[str, float] = {}
    differences: dict[str, float] = {}
    integers: Integers | None = None
    software: dict[str, str]
    files: dict[str, str] = {}

    @classmethod
    def open(cls, version: Path) -> Self:
        """The manifest of a published version, whose checksum has been verified.

        Raises:
            DamagedManifestError: it is not there, or not as it was written.
            ValueError: it is of another release of this project.
            OSError: it cannot be read.
        """
        return cls.model_validate(read_manifest(version))

    def save(self, version: Path) -> None:
        """Write the manifest with its own checksum into a version's folder."""
        content = json.loads(self.model_dump_json())
        text = json.dumps(content | {CHECKSUM: content_checksum(content)}, indent=2, ensure_ascii=False)
        (version / MANIFEST_FILE).write_text(text, encoding="utf-8")


def is_readable(version: Path) -> bool:
    """Whether a version's manifest is one of this release; one of another may still answer."""
    try:
        Manifest.open(version)
    except ValueError:
        return False
    return True


def open_manifest(version: Path) -> Manifest:
    """The manifest of a version that is to be used.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return Manifest.open(version)
    except ValueError as error:
        raise not_whole(version, error) from error


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
