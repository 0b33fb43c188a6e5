"""Learners of small trainings, and batches for them, for the tests of several modules."""

from collections.abc import Iterator

import numpy as np

from cnn.networks.architectures import PRETRAINED
from cnn.networks.initializers import random_parameters
from cnn.networks.running import set_parameters
from cnn.support.backend import CPU, Devices, mx
from cnn.training.batches import Batch
from cnn.training.checkpoints import Arrays, Checkpoint
from cnn.training.hyperparameters import FromScratch, ImageStage
from cnn.training.learner import Classes, Learner, Model
from cnn.training.pixels import PixelBatches
from cnn.training.scratch import scratch_model
from cnn.training.transfer import transfer_model

START = Checkpoint(PRETRAINED, (), random_parameters(seed=3))
CLASSES = Classes(("hotdog", "not_hotdog"), positive=0, counts=(8, 8))


def make_learner(
    stage: ImageStage,
    devices: Devices = CPU,
    seed: int = 0,
    classes: Classes = CLASSES,
    start: Arrays = START.parameters,
) -> Learner:
    return Learner(stage, classes, transfer_model(len(classes.names), start, seed, devices))


def make_fresh_learner(stage: FromScratch, batches: PixelBatches, devices: Devices = CPU, seed: int = 0) -> Learner:
    return Learner(stage, CLASSES, scratch_model(stage, len(CLASSES.names), batches.examples(), seed, devices))


def linear_model(start: Arrays, devices: Devices = CPU) -> Model:
    """A single layer whose ``weight`` (classes, inputs) and ``bias`` (classes,) are all trained."""
    classes, inputs = start["weight"].shape
    net = mx.gluon.nn.Dense(classes, in_units=inputs)
    net.initialize(ctx=devices.contexts)
    set_parameters(net, start)
    return Model(net, learning=net, forward=net, predict=net, devices=devices)


class FewBatches:
    """The same few batches in every epoch, and images for evaluation."""

    def __init__(self, batches: list[Batch], **evaluated: Batch) -> None:
        self._batches, self._evaluated, self.steps_per_epoch = batches, evaluated, len(batches)

    def training(self, epoch: int) -> Iterator[Batch]:
        return iter(self._batches)

    def evaluation(self, split: str) -> Iterator[Batch]:
        yield self._evaluated[split]


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    """The same, bit for bit, but for how long it took."""
    for name in ("network", "classes", "history", "kept"):
        assert getattr(found, name) == getattr(expected, name)
    assert len(found.timings) == len(expected.timings) == len(found.history)
    assert (found.path, found.strength, found.learning_curve) == (
        expected.path,
        expected.strength,
        expected.learning_curve,
    )
    for name, values in expected.held_out.items():
        np.testing.assert_array_equal(found.held_out[name], values, err_msg=name)
    assert found.parameters.keys() == expected.parameters.keys()
    for name, values in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], values, err_msg=name)
