"""The networks that can be trained, by name: the notebook's AlexNet and VGG, and SqueezeNet 1.1.

To add one, write a function from the number of classes to a ``HybridBlock`` and give it a line in `ARCHITECTURES`.
"""

import io
from bisect import bisect_left
from collections.abc import Callable
from contextlib import redirect_stdout

from cnn.backend import Network, mx
from cnn.errors import UserError
from cnn.files import text_digest
from cnn.squeezenet import squeezenet

#: Side, px, of the largest pictures that a network may be for.
LARGEST_SIDE = 1024


def alexnet(classes: int) -> Network:
    """The notebook's section "My first convolutional network": (n, 3, side, side) to (n, classes).

    Krizhevsky et al. 2012, for larger pictures; at 32 px its last three convolutions see maps of 2 × 2.
    """
    nn = mx.gluon.nn
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(96, 11, strides=4, padding=5, activation="relu"),
        nn.MaxPool2D(3, strides=2, padding=1),
        nn.Conv2D(192, 5, padding=2, activation="relu"),
        nn.MaxPool2D(3, strides=2, padding=1),
        nn.Conv2D(384, 3, padding=1, activation="relu"),
        nn.Conv2D(384, 3, padding=1, activation="relu"),
        nn.Conv2D(256, 3, padding=1, activation="relu"),
        nn.MaxPool2D(3, strides=2, padding=1),
        nn.Flatten(),
        nn.Dense(4096, activation="relu"),
        nn.Dense(4096, activation="relu"),
        nn.Dense(classes),
    )
    return net


def vgg(classes: int) -> Network:
    """The notebook's VGG: (n, 3, side, side) to (n, classes).

    Simonyan & Zisserman 2014, https://arxiv.org/abs/1409.1556.
    """
    nn = mx.gluon.nn
    net = nn.HybridSequential()
    for convolutions, channels in ((1, 64), (1, 128), (1, 256), (3, 512)):
        for _ in range(convolutions):
            net.add(nn.Conv2D(channels, 3, padding=1, activation="relu"))
        net.add(nn.MaxPool2D(2, strides=2))
    net.add(nn.Flatten())
    for _ in range(2):
        net.add(nn.Dense(512, activation="relu"), nn.Dropout(0.5))
    net.add(nn.Dense(classes))
    return net


ARCHITECTURES: dict[str, Callable[[int], Network]] = {"alexnet": alexnet, "vgg": vgg, "squeezenet": squeezenet}


def require_architecture(name: str) -> str:
    """The name of a known architecture, as it is.

    Raises:
        ValueError: there is no such architecture (names those there are), or its network could not be exported.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"there is no such architecture; choose from {', '.join(ARCHITECTURES)}")
    network = ARCHITECTURES[name](2)
    if not isinstance(network, mx.gluon.HybridBlock):
        raise ValueError(f"expected a HybridBlock, which can be exported, found {type(network).__name__}")
    try:
        network(mx.sym.var("data"))
    except Exception as error:  # whatever the code of the layers raises
        raise ValueError(f"it cannot be exported as a graph ({error}); use F's operators, and no shapes") from error
    return name


def architecture_digest(name: str) -> str:
    """Digest of an architecture's graph for two classes: its layers and their settings, whatever code makes them."""
    with mx.name.NameManager():  # counts layers from 0, whatever was made before
        return text_digest(ARCHITECTURES[name](2)(mx.sym.var("data")).tojson())


def _works(architecture: str, side: int) -> bool:
    """Whether the network has something left of a picture of ``side`` px at its end; computes nothing."""
    data = mx.sym.var("data", shape=(1, 3, side, side))
    with redirect_stdout(io.StringIO()):  # it prints what it then raises
        try:
            return all(all(shape) for shape in ARCHITECTURES[architecture](2)(data).get_internals().infer_shape()[1])
        except mx.base.MXNetError:
            return False


def smallest_side(architecture: str) -> int:
    """The side, px, of the smallest square picture that an architecture takes.

    Raises:
        UserError: it takes none of up to `LARGEST_SIDE`.

    >>> smallest_side("vgg")
    16
    """
    sides = range(1, LARGEST_SIDE + 1)
    found = bisect_left(sides, True, key=lambda side: _works(architecture, side))
    if found == len(sides):
        raise UserError(
            f"No side of up to {LARGEST_SIDE} px was found that {architecture} takes: mend its layers or choose --side."
        )
    return sides[found]


def require_side(architecture: str, side: int) -> None:
    """Refuse pictures that are too small for an architecture.

    Raises:
        UserError: names the smallest side that works.
    """
    if _works(architecture, side):
        return
    smallest = smallest_side(architecture)
    raise UserError(
        f"Pictures of {side} × {side} px are too small for {architecture}; "
        f"the smallest that work have {smallest} × {smallest} px: choose --side {smallest} or more."
    )
