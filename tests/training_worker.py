"""Trains a small network twice, alone or as one of several workers, and writes every loss: for test_workers.py.

python tests/training_worker.py DATASET PIXELS OUT [--patience SECONDS] [--dies]
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cnn.data.datasets import Dataset
from cnn.data.images import Preprocessing
from cnn.networks.architectures import ARCHITECTURES, Architecture
from cnn.support.backend import mx
from cnn.support.commandline import run
from cnn.training import workers
from cnn.training.batches import Batch
from cnn.training.hyperparameters import FromScratch
from cnn.training.learner import Learner
from cnn.training.scratch import train_from_scratch

_COMMON: dict[str, Any] = {
    "preprocessing": Preprocessing.whole(32),
    "batch_size": 7,  # two steps an epoch; neither workers nor batches divide the images
    "epochs": 3,
    "noise": 0.0,
    "shift": 2,
    "mirror": True,
    "weight_decay": 0.1,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
}
_OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "learning_rate": 0.02, "warm_up": 0.2, "initializer": "he"},
    "adam": {"learning_rate": 0.01, "schedule": "cosine", "initializer": "whitening", "mirrored_mean": True},
}


def lenet(classes: int) -> Any:
    nn, net = mx.gluon.nn, mx.gluon.nn.HybridSequential()
    net.add(nn.Conv2D(6, 5, activation="relu"), nn.MaxPool2D(2), nn.Dense(classes))
    return net


def train(dataset: Path, pixels: Path, out: Path, dies: bool = False) -> None:
    """Train by each optimizer; write losses of all steps, parameters and metrics, and beside it the states."""
    losses, step, found = list[float](), Learner.step, dict[str, Any]()

    def recording(learner: Learner, batch: Batch, learning_rate: float) -> Any:
        if dies and learner.workers.rank == 1 and learner.steps_done == 3:
            os.kill(os.getpid(), signal.SIGKILL)  # in the middle of the second epoch
        loss, outputs = step(learner, batch, learning_rate)
        losses.append(loss)
        return loss, outputs

    known = patch.dict(ARCHITECTURES, lenet=Architecture(lenet, smallest_side=6))
    with known, patch.object(Learner, "step", recording):
        for name, differences in _OPTIMIZERS.items():
            stage = FromScratch(architecture="lenet", optimizer=name, **_COMMON | differences)
            state_file = out.parent / f"{name}.npz"
            trained = train_from_scratch(Dataset.open(dataset), stage, pixels=pixels, state_file=state_file)
            found |= {f"{name} {place}": values for place, values in enumerate(trained.parameters.values())}
            found[f"{name} history"] = np.array([row["validation_accuracy"] for row in trained.history])
    np.savez(out, losses=losses, **found)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("dataset", "pixels", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--patience", type=float, default=workers.PATIENCE)
    parser.add_argument("--dies", action="store_true")
    options = parser.parse_args()
    workers.PATIENCE = options.patience
    with workers.together() as group:
        out = options.out.with_stem(f"{options.out.stem}{group.rank}")
        train(options.dataset, options.pixels, out, options.dies)


if __name__ == "__main__":
    run(main)
