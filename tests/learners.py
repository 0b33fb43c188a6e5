"""Learners of small trainings, for the tests of several modules."""

from collections.abc import Sequence

from cnn.backend import Device, mx
from cnn.batches import PixelBatches
from cnn.checkpoints import Arrays, Checkpoint
from cnn.hyperparameters import FromScratch, Stage
from cnn.learner import Classes, Learner
from cnn.models import fresh_model, transfer_model
from cnn.networks import random_parameters

START = Checkpoint(random_parameters(seed=3))
CLASSES = Classes(("hotdog", "not_hotdog"), positive=0, counts=(8, 8))


def make_learner(
    stage: Stage,
    devices: Sequence[Device] = (mx.cpu(),),
    seed: int = 0,
    classes: Classes = CLASSES,
    start: Arrays = START.parameters,
) -> Learner:
    return Learner(stage, classes, transfer_model(stage, len(classes.names), start, devices, seed), devices)


def make_fresh_learner(
    settings: FromScratch, batches: PixelBatches, devices: Sequence[Device] = (mx.cpu(),), seed: int = 0
) -> Learner:
    model = fresh_model(settings, len(CLASSES.names), devices, seed, batches.examples())
    return Learner(settings, CLASSES, model, devices)
