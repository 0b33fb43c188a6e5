"""Training from scratch: an architecture from random parameters to a checkpoint (notebook, "My first …")."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from cnn.data.datasets import Dataset
from cnn.networks.architectures import require_exportable
from cnn.networks.initializers import make_initializer, whiten_first_layer
from cnn.networks.running import compile_network, initialise, mirrored_mean, set_dropout
from cnn.support.backend import CPU, Devices
from cnn.training.checkpoints import Checkpoint
from cnn.training.hyperparameters import FromScratch
from cnn.training.learner import Classes, Learner, Model
from cnn.training.loop import train
from cnn.training.pixels import PixelBatches, pack_pixels


def train_from_scratch(
    dataset: Dataset,
    stage: FromScratch,
    *,
    seed: int = 0,
    devices: Devices = CPU,
    pixels: Path | None = None,
    state_file: Path | None = None,
) -> Checkpoint:
    """Train an architecture on a dataset of small images.

    Args:
        pixels: what `pack_pixels` wrote for this dataset and preprocessing; None: it is made, and forgotten afterwards.
        state_file: what a killed training resumes from; None: it starts anew.

    Raises:
        UserError: the network cannot be exported or does not take such images, or the loss became infinite or NaN.
    """
    classes = Classes.of(dataset)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        if pixels is None:
            pixels = folder / "pixels"
            pack_pixels(dataset, stage.preprocessing, pixels)
        batches = PixelBatches(dataset, pixels, stage, seed)
        learner = Learner(stage, classes, scratch_model(stage, len(classes.names), batches.examples(), seed, devices))
        found = train(learner, batches, seed=seed, state_file=state_file or folder / "state.npz")
    values, history, timings, kept = found
    return Checkpoint(
        network=stage.network,
        classes=dataset.classes,
        parameters=values,
        history=tuple(history),
        timings=tuple(timings),
        kept=kept,
    )


def scratch_model(
    stage: FromScratch, classes: int, images: NDArray[np.float32], seed: int, devices: Devices = CPU
) -> Model:
    """An architecture with random parameters, all of which are trained; some may start from what the images look like.

    Args:
        images: some training inputs, (n, 3, side, side).

    Raises:
        UserError: the network cannot be exported or does not take such images.
    """
    net = stage.build(classes)
    require_exportable(net, stage.architecture, stage.preprocessing.crop)
    if stage.dropout is not None:
        set_dropout(net, stage.dropout)
    initialise(net, stage.preprocessing.crop, seed, make_initializer(stage.initializer), devices)
    if stage.initializer == "whitening":
        whiten_first_layer(net, images)
    predict = compile_network(mirrored_mean(net) if stage.mirrored_mean else net)  # compiles ``net``, too
    return Model(net, learning=net, forward=net, predict=predict, devices=devices)
