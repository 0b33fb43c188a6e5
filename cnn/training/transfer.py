"""Transfer learning: a stage from pretrained features to a checkpoint (notebook, "Transfer Learning")."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.data.datasets import Dataset
from cnn.data.images import center_view, decode, to_tensor
from cnn.networks.running import compile_network, initialise, set_parameters
from cnn.support.backend import CPU, Devices, Network, mx
from cnn.training.checkpoints import Arrays, Checkpoint
from cnn.training.features import FeatureStore, embed, learning_splits
from cnn.training.head import Head, learning_curve, solve_head
from cnn.training.hyperparameters import HeadStage, ImageStage, Stage
from cnn.training.learner import Classes, Learner, Model
from cnn.training.loop import train
from cnn.training.records import RecordBatches, pack_records

#: Twice the largest output, but for its sign, at any position of so many images and some that show nothing keeps the
#: ReLU behind the output block from clipping.
_PROBED_IMAGES, _MARGIN = 16, 2.0


def transfer(
    dataset: Dataset,
    start: Checkpoint,
    stage: Stage,
    *,
    positive: str | None = None,
    seed: int = 0,
    devices: Devices = CPU,
    inputs: Path | None = None,
    state_file: Path | None = None,
) -> Checkpoint:
    """Train a pretrained network on a dataset for one stage, from its weights or an earlier stage's checkpoint.

    Args:
        start: where the parameters come from; its history is continued.
        positive: the class of precision, recall and F1; None: ``hotdog`` if there is one, else their mean.
        inputs, state_file: what `make_inputs` wrote for this stage, and what a killed training resumes from; both are
            kept in a temporary folder if None.

    Raises:
        UserError: there is no class ``positive``, a class has too few images, or the loss became infinite or NaN.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if inputs is None:
            inputs = folder / "inputs"
            make_inputs(dataset, start, stage, inputs, seed=seed, devices=devices)
        if isinstance(stage, HeadStage):
            return _solve(dataset, start, stage, inputs, seed, devices)
        return _train(dataset, start, stage, positive, seed, devices, inputs, state_file or folder / "state.npz")


def make_inputs(
    dataset: Dataset, start: Checkpoint, stage: Stage, folder: Path, *, seed: int = 0, devices: Devices = CPU
) -> None:
    """Write into ``folder`` what a stage is trained on: features, or records."""
    if isinstance(stage, HeadStage):
        embed(dataset, start.network, start.parameters, folder, views=stage.views, seed=seed, devices=devices)
    else:
        pack_records(dataset, folder)


def _solve(
    dataset: Dataset, start: Checkpoint, stage: HeadStage, features: Path, seed: int, devices: Devices
) -> Checkpoint:
    """The head solved on all images that are not test images, in the place of the output block."""
    found = [dataset.ids_and_labels(split) for split in learning_splits(dataset)]
    ids, labels = [image_id for each, _ in found for image_id in each], np.concatenate([each for _, each in found])
    values = FeatureStore(features).load(ids)
    head = solve_head(values, labels, stage, seed)
    net = initialise(start.network.build(len(dataset.classes)), start.network.preprocessing.crop, seed, devices=devices)
    set_parameters(net, start.parameters, prefix="features")
    output = head_parameters(net, head, _probes(dataset, start, seed))
    features_only = {name: value for name, value in start.parameters.items() if name.startswith("features")}
    curve = learning_curve(values, labels, head.strength, stage, seed)
    return replace(
        start,
        classes=dataset.classes,
        parameters=features_only | output,
        path=tuple(each.facts() for each in head.path),
        strength=head.strength,
        learning_curve=tuple({"images": count, "confusion": confusion.tolist()} for count, confusion in curve),
        held_out={"ids": np.array(ids), "probabilities": head.held_out.astype(np.float32)},
    )
