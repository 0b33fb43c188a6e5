"""Manifests: what a model version is and where it comes from, as ``manifest.json`` and ``champion.json`` say it."""

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from cnn.data.datasets import Dataset
from cnn.evaluation.calibration import UNCALIBRATED, Calibration
from cnn.evaluation.metrics import Metrics
from cnn.evaluation.paired import PairedComparison
from cnn.networks.architectures import NetworkConfig
from cnn.support.backend import CPU, Devices
from cnn.support.files import NO_FILE, read_file, text_digest
from cnn.support.references import Reference
from cnn.support.text import printable
from cnn.training.hyperparameters import Recipe

MANIFEST_FILE, CHAMPION_FILE, REPORT_PAGE = "manifest.json", "champion.json", "report.html"
#: A larger file is neither a manifest nor a ``champion.json``.
MAX_BYTES = 1 << 26
_CHECKSUM = "checksum"


class DamagedManifestError(ValueError):
    """A ``manifest.json`` is not there, empty, cut off or altered: nothing that it says can be trusted."""


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


class Manifest(_Record):
    """Everything known of a model version.

    ``judgement`` is None if it was not compared with a champion; ``outlook`` says whether more images would help, if
    that is known; ``calibration`` makes its answers from the network's probabilities; ``durations`` are the seconds of
    the steps that ran; ``files`` holds the SHA-256 of each of its files.
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
        try:
            content = json.loads(read_file(version / MANIFEST_FILE, MAX_BYTES))
            checksum = content.pop(_CHECKSUM, None)
        except OSError as error:
            if error.errno not in NO_FILE:
                raise
            raise DamagedManifestError(f"its {MANIFEST_FILE} is missing or no file") from error
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise DamagedManifestError(f"its {MANIFEST_FILE} is damaged: it is not a JSON object") from error
        is_earlier = checksum is None and "outlook" not in content  # the first releases wrote neither
        if not is_earlier and checksum != _digest(content):
            raise DamagedManifestError(f"its {MANIFEST_FILE} was altered: it does not match its checksum")
        return cls.model_validate(content)

    def save(self, version: Path) -> None:
        """Write the manifest with its own checksum into a version's folder."""
        content = json.loads(self.model_dump_json())
        text = json.dumps(content | {_CHECKSUM: _digest(content)}, indent=2, ensure_ascii=False)
        (version / MANIFEST_FILE).write_text(text, encoding="utf-8")


def _digest(content: dict[str, Any]) -> str:
    """Digest of JSON, whatever its layout."""
    return text_digest(json.dumps(content, sort_keys=True))


class Champion(_Record):
    """The published best: which version, its metrics, its notes, since when.

    ``by`` is who promoted it by hand, empty if the gate did; ``former`` are the champions before it, the last one last.
    """

    version: str
    metrics: dict[str, Metrics]
    notes: tuple[str, ...]
    since: str
    by: str = ""
    former: tuple[str, ...] = ()
