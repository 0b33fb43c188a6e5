"""Trainings that are killed, called as plain functions without Prefect: what is resumed, and what is not."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnn.data.datasets import Dataset
from cnn.networks.architectures import PRETRAINED
from cnn.networks.initializers import random_parameters
from cnn.support import progress
from cnn.support.backend import CPU
from cnn.support.references import Reference
from cnn.training import loop
from cnn.training.checkpoints import Checkpoint, TrainingState, load_checkpoint, save_parameters, save_state
from cnn.training.recipes import cifar_recipe, hotdog_recipe
from tasks import preparing, training
from tasks.gpus import Placement

EPOCHS = 3
Train = Callable[..., Reference]


class Killed(BaseException):
    """The process is killed."""


@pytest.fixture(scope="module", autouse=True)
def no_server() -> Iterator[None]:
    """Progress is not shown anywhere, so that no server is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "REPORT_INTERVAL", math.inf)
        yield


@pytest.fixture
def train_output(drawn_dataset: Dataset, weights_file: Path, records: Path, tmp_path: Path) -> Train:
    """Trains an output block; anything may be changed."""
    inputs: dict[str, Any] = {
        "stage": hotdog_recipe("notebook", epochs=EPOCHS).stages[0],
        "inputs": Reference.to(records),
        "dataset": Reference.to(drawn_dataset.folder),
        "weights": Reference.to(weights_file),
        "network": PRETRAINED,
        "positive": None,
        "seed": 0,
        "devices": CPU,
        "store": tmp_path,
    }
    return lambda **changes: training.train_stage.fn(**inputs | changes)


@pytest.fixture
def train_lenet(lenet: object, drawn_dataset: Dataset, tmp_path: Path) -> Train:
    """Trains a small network; anything may be changed."""
    stage, dataset = cifar_recipe("tuned", "lenet", epochs=EPOCHS, side=8).stages[0], Reference.to(drawn_dataset.folder)
    inputs: dict[str, Any] = {
        "stage": stage,
        "pixels": preparing.pack_pixels.fn(dataset, stage.preprocessing, tmp_path),
        "dataset": dataset,
        "seed": 0,
        "where": Placement(devices=CPU, together=True),
        "store": tmp_path,
    }
    return lambda **changes: training.train_architecture.fn(**inputs | changes)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Starts a training and kills it after its first epoch."""

    def save_and_die(path: Path, state: TrainingState) -> None:
        save_state(path, state)
        raise Killed

    def kill(train: Train, **changes: Any) -> None:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(loop, "save_state", save_and_die)
            train(**changes)

    return kill


@pytest.mark.parametrize("which", ["train_output", "train_lenet"])
def test_killed_training_is_resumed(
    which: str, killed: Callable[..., None], tmp_path: Path, request: pytest.FixtureRequest, caplog: Any
) -> None:
    train: Train = request.getfixturevalue(which)
    whole = load_checkpoint(train(store=tmp_path / "whole").path)
    killed(train)
    caplog.clear()
    resumed = train()
    assert f"resuming after epoch 1 of {EPOCHS}" in caplog.text
    assert not list(tmp_path.rglob("state.npz"))  # of no more use
    trained = load_checkpoint(resumed.path)
    assert trained.history == whole.history and trained.kept == whole.kept
    assert [row["epoch"] for row in trained.history] == list(range(EPOCHS + 1))
    for name, values in whole.parameters.items():
        np.testing.assert_array_equal(trained.parameters[name], values)


def test_killed_training_of_other_weights_is_not_resumed(
    train_output: Train, killed: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_parameters(tmp_path / "other.npz", random_parameters(seed=1))
    killed(train_output, weights=Reference.to(tmp_path / "other.npz"))
    train_output()
    assert "resuming" not in caplog.text


@pytest.mark.parametrize("which", ["train_output", "train_lenet"])
def test_killed_training_of_another_seed_is_not_resumed(
    which: str, killed: Callable[..., None], request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    train: Train = request.getfixturevalue(which)
    killed(train, seed=1)
    train()
    assert "resuming" not in caplog.text


def test_moved_weights_are_the_same_training(
    train_output: Train, killed: Callable[..., None], weights_file: Path, tmp_path: Path, caplog: Any
) -> None:
    moved = tmp_path / "moved.npz"
    moved.write_bytes(weights_file.read_bytes())
    killed(train_output, weights=Reference.to(moved, notes=("Moved.",)))
    train_output()
    assert f"resuming after epoch 1 of {EPOCHS}" in caplog.text


def test_same_checkpoint_has_the_same_digest(train_lenet: Train, tmp_path: Path) -> None:
    first, second = (train_lenet(store=tmp_path / name) for name in ("first", "second"))
    assert first.digest == second.digest and first.path != second.path
    assert first.digest != train_lenet(seed=1).digest


def test_workers_keep_checkpoints_of_their_own(
    drawn_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = random_parameters(seed=0)
    state = tmp_path / "state.npz"
    state.touch()
    saved = {}
    for rank in (1, 0):
        monkeypatch.setattr(training, "current_workers", lambda rank=rank: SimpleNamespace(rank=rank, leads=not rank))
        trained = Checkpoint(PRETRAINED, drawn_dataset.classes, values, ({"epoch": 0},), ({"seconds": float(rank)},))
        saved[rank] = training._save(tmp_path, trained, state)
        assert state.exists() == bool(rank)
    assert saved[0].is_intact() and saved[1].is_intact() and saved[0].digest == saved[1].digest
