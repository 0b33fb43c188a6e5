"""A trained network as a classifier, before it is calibrated and published."""

from cnn.evaluation.classifier import Classifier
from cnn.networks.answering import answering
from cnn.networks.running import Runner
from cnn.support.backend import CPU, Devices
from cnn.training.checkpoints import Checkpoint


def trained_classifier(checkpoint: Checkpoint, devices: Devices = CPU) -> Classifier:
    """The classifier that a training ended with; only `cnn.evaluate` calibrates it."""
    config, novelty = checkpoint.network, checkpoint.novelty
    net = answering(
        config, len(checkpoint.classes), checkpoint.parameters, explains=novelty is not None, devices=devices
    )
    runner = Runner(net, config.preprocessing.crop, devices)
    return Classifier(runner, checkpoint.classes, config.preprocessing, novelty=novelty)
