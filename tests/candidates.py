"""Trained networks that may be published, small and made by hand, and fixtures that test modules import."""

import shutil
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from without_figures import leave_out_figures

from cnn.data.datasets import Dataset
from cnn.data.images import Preprocessing
from cnn.evaluation import report
from cnn.evaluation.answers import Calibration
from cnn.networks.architectures import NetworkConfig
from cnn.networks.initializers import random_parameters
from cnn.publication import agreement, exports, publishing
from cnn.publication.manifest import Lineage, Manifest
from cnn.support.files import text_digest
from cnn.training.checkpoints import Checkpoint, save_checkpoint
from cnn.training.features import FeatureStore, embed
from cnn.training.novelty import Novelty
from cnn.training.recipes import hotdog_recipe

#: SqueezeNet for images small enough that a test need not wait.
SMALL = NetworkConfig(architecture="squeezenet", preprocessing=Preprocessing.whole(32))
EPOCH = {"epoch": 0, "validation_accuracy": 0.5, "validation_f1": 0.5}


@dataclass(frozen=True)
class Made:
    """A candidate: folders of its checkpoint and its report, its dataset and lineage."""

    checkpoint: Path
    report: Path
    dataset: Dataset
    lineage: Lineage

    def publish(self, models: Path, **changes: Any) -> Path:
        """Publish it as ``food``."""
        return publishing.publish(**({**vars(self), "name": "food", "models": models} | changes))

    def with_lineage(self, **changes: Any) -> "Made":
        """The same candidate of another lineage."""
        return replace(self, lineage=Lineage(**dict(self.lineage) | changes))

    def of_other_data(self) -> "Made":
        """The same candidate as if its dataset had another digest."""
        return self.with_lineage(data=self.lineage.data.model_copy(update={"digest": "another"}))


#: Files of networks that were exported, and their differences to MXNet, by what was exported.
_EXPORTED: dict[str, dict[str, bytes]] = {}
_DIFFERENCES: dict[str, dict[str, float]] = {}


def _identity(trained: Checkpoint, calibration: Calibration) -> str:
    values = (sha256(trained.parameters[name].tobytes()).hexdigest() for name in sorted(trained.parameters))
    return text_digest(trained.network, trained.classes, trained.novelty, calibration, *values)


def _export_once(trained: Checkpoint, folder: Path, calibration: Calibration) -> None:
    identity, before = _identity(trained, calibration), set(folder.iterdir())
    if identity not in _EXPORTED:
        exports.export_network(trained, folder, calibration)
        _EXPORTED[identity] = {path.name: path.read_bytes() for path in set(folder.iterdir()) - before}
    for name, content in _EXPORTED[identity].items():
        (folder / name).write_bytes(content)


def _differ_once(folder: Path, trained: Checkpoint, calibration: Calibration, images: list[Any]) -> dict[str, float]:
    identity = _identity(trained, calibration)
    if identity not in _DIFFERENCES:
        _DIFFERENCES[identity] = agreement.differences(folder, trained, calibration, images)
    return _DIFFERENCES[identity]


@pytest.fixture(autouse=True)
def exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a module that imports this, export each network once in a process: it takes most of a publication's time."""
    monkeypatch.setattr(publishing, "export_network", _export_once)
    monkeypatch.setattr(publishing, "differences", _differ_once)


def make_candidate(folder: Path, dataset: Dataset, always: int, *, bias: float = 1) -> Made:
    """A SqueezeNet that predicts the class ``always`` whatever it is shown, the surer the greater its ``bias``."""
    values = random_parameters(seed=0)
    values["output.0.weight"] = np.zeros((2, 512, 1, 1), np.float32)
    values["output.0.bias"] = bias * np.eye(2, dtype=np.float32)[always]
    return as_candidate(folder / f"{always}-{bias:g}", dataset, Checkpoint(SMALL, dataset.classes, values, (EPOCH,)))


def as_candidate(folder: Path, dataset: Dataset, trained: Checkpoint) -> Made:
    """A network, saved and evaluated."""
    save_checkpoint(folder / "checkpoint", trained)
    with pytest.MonkeyPatch.context() as patch:  # no test looks at them
        leave_out_figures(patch.setattr)
        report.evaluate(folder / "checkpoint", dataset, folder / "report")
    lineage = Lineage.of(dataset, hotdog_recipe(), source="drawn")
    return Made(folder / "checkpoint", folder / "report", dataset, lineage)


#: Candidates that no test changes, by class and bias: made once in a process.
_MADE: dict[tuple[int, float], Made] = {}


def _made(factory: pytest.TempPathFactory, dataset: Dataset, always: int, bias: float = 1) -> Made:
    if (always, bias) not in _MADE:
        _MADE[always, bias] = make_candidate(factory.mktemp("candidate"), dataset, always, bias=bias)
    return _MADE[always, bias]


@pytest.fixture(scope="module")
def hotdog(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A candidate of test F1 2/3: everything is a hotdog."""
    return _made(tmp_path_factory, drawn_dataset, 0)


@pytest.fixture(scope="module")
def other(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A candidate of test F1 0: nothing is a hotdog."""
    return _made(tmp_path_factory, drawn_dataset, 1)


@pytest.fixture(scope="module")
def equal(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Another network with the same predictions as `hotdog`."""
    return _made(tmp_path_factory, drawn_dataset, 0, bias=2)


@pytest.fixture(scope="module")
def explained(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published version of random features; everything is novel to it but the first training image."""
    folder = tmp_path_factory.mktemp("explained")
    values = random_parameters(seed=0)
    values |= {name: values[name][:2] for name in ("output.0.weight", "output.0.bias")}
    values["output.0.bias"] += 5  # a ReLU follows
    network = SMALL.model_copy(update={"mirrored_mean": True})
    trained = Checkpoint(network, drawn_dataset.classes, values, (EPOCH,))
    embed(drawn_dataset, trained, folder, splits=("train",))
    known = FeatureStore(folder).load(drawn_dataset.ids_and_labels("train")[0][:1])
    novelty = replace(Novelty.fit(known.repeat(2, axis=0)), limit=np.array(0.01, np.float32))
    as_candidate(folder, drawn_dataset, replace(trained, novelty=novelty)).publish(folder / "models")
    return folder / "models"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def photos(tmp_path: Path, drawn: Path) -> Path:
    """A copy of the drawn images that a test may change."""
    return shutil.copytree(drawn, tmp_path / "photos")


def edit(version: Path, **changes: object) -> None:
    """Change a published manifest."""
    manifest = Manifest(**dict(Manifest.open(version)) | changes)
    manifest.save(version)


def flip_bit(file: Path) -> None:
    """Alter one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
