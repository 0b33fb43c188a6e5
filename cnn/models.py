"""What is trained: a network, the part of it that learns, and how inputs go through it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.architectures import ARCHITECTURES
from cnn.backend import Device, Network, mx
from cnn.checkpoints import Arrays
from cnn.hyperparameters import FromScratch, Stage
from cnn.initializers import INITIALIZERS, whiten_first_layer
from cnn.networks import MirroredMean, compile_network, initialise, set_dropout, set_parameters
from cnn.pictures import CROP
from cnn.squeezenet import squeezenet


@dataclass(frozen=True)
class Model:
    """A network on its devices; ``learning`` is the part whose parameters change.

    ``forward`` takes a batch to learn from, ``predict`` one to answer: what is published may answer otherwise.
    """

    name: str
    net: Network
    learning: Network
    forward: Callable[[Any], Any]
    predict: Callable[[Any], Any]


def fresh_model(
    settings: FromScratch, classes: int, devices: Sequence[Device], seed: int, pictures: NDArray[np.float32]
) -> Model:
    """An architecture with random parameters, all of which learn; some may start from what the pictures look like.

    Args:
        pictures: some training inputs, (n, 3, side, side).
    """
    net = ARCHITECTURES[settings.architecture](classes)
    if settings.dropout is not None:
        set_dropout(net, settings.dropout)
    initialise(net, settings.input.crop, devices, seed, INITIALIZERS[settings.initializer])
    if settings.initializer == "whitening":
        whiten_first_layer(net, pictures)
    answering = compile_network(MirroredMean(net) if settings.mirrored_mean else net)  # compiles ``net``, too
    return Model(settings.architecture, net, learning=net, forward=net, predict=answering)


def transfer_model(stage: Stage, classes: int, start: Arrays, devices: Sequence[Device], seed: int) -> Model:
    """SqueezeNet with the features of ``start`` and a fresh output block (notebook, "Transfer Learning").

    The output block is taken over, too, if all layers learn and it has as many classes.
    """
    net = initialise(squeezenet(classes), CROP, devices, seed)
    net.output[0].bias.set_data(mx.nd.full((classes,), stage.output_bias))
    set_parameters(net, start, prefix="features")
    if len(start["output.0.bias"]) == classes and stage.trains == "all":
        set_parameters(net, start, prefix="output")
    learning = net if stage.trains == "all" else net.output
    forward = _forward(net, stage)
    return Model(stage.trains, net, learning, forward, predict=forward)


def _forward(net: Network, stage: Stage) -> Callable[[Any], Any]:
    if stage.views:
        return compile_network(net.output)
    if stage.trains == "all":
        return compile_network(net)
    features, output = compile_network(net.features), compile_network(net.output)

    def forward(pictures: Any) -> Any:
        # the frozen part keeps its dropout, as in the notebook, but computes no gradients
        with mx.autograd.pause(train_mode=mx.autograd.is_training()):
            frozen = features(pictures)
        return output(frozen)

    return forward
