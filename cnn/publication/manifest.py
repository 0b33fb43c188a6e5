"""Manifests: what a model version is and where it comes from, as ``manifest.json`` and ``champion.json`` say it."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from cnn.data.datasets import Dataset
from cnn.evaluation.predictions import Metrics
from cnn.networks.architectures import NetworkConfig
from cnn.support.backend import CPU, Devices
from cnn.support.references import Reference
from cnn.training.hyperparameters import Recipe

MANIFEST_FILE, CHAMPION_FILE = "manifest.json", "champion.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class DataOrigin(_Record):
    """The dataset: name of its source, digest of its content, images of each split and class, what was left out."""

    source: str
    digest: str
    counts: dict[str, dict[str, int]]
    split_origin: str
    left_out: int
    duplicates: int


class WeightsOrigin(_Record):
    """The weights at the start: name and SHA-256 of their file."""

    source: str
    digest: str


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
        weights: Reference | None = None,
        seed: int = 0,
        devices: Devices = CPU,
        notes: tuple[str, ...] = (),
    ) -> Self:
        """The lineage of a model that ``recipe`` trained on ``dataset``; repeats the notes of data and weights."""
        data = DataOrigin(
            source=source,
            digest=dataset.digest(),
            counts=dataset.counts,
            split_origin=dataset.split_origin,
            left_out=len(dataset.left_out),
            duplicates=len(dataset.duplicates),
        )
        return cls(
            data=data,
            weights=weights and WeightsOrigin(source=weights.path.name, digest=weights.digest),
            recipe=recipe.name,
            stages=tuple(stage.model_dump(mode="json") for stage in recipe.stages),
            seed=seed,
            device=devices.names,
            notes=(*notes, *(weights.notes if weights else ()), *dataset.caveats),
        )

    @property
    def chosen_by(self) -> Literal["f1", "accuracy"]:
        """The validation metric by which the last stage chose, and by which champions are compared."""
        return self.stages[-1]["chosen_by"]


class Manifest(_Record):
    """Everything known of a model version; ``files`` holds the SHA-256 of each of its files."""

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
    lineage: Lineage
    software: dict[str, str]
    files: dict[str, str] = {}

    @classmethod
    def open(cls, version: Path) -> Self:
        """The manifest of a published version.

        Raises:
            OSError, ValueError: there is none that can be read.
        """
        return cls.model_validate_json((version / MANIFEST_FILE).read_text(encoding="utf-8"))


class Champion(_Record):
    """The published best: which version, its metrics, its notes, since when."""

    version: str
    metrics: dict[str, Metrics]
    notes: tuple[str, ...]
    since: str
