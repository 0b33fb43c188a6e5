"""The networks that can be trained, by name: the notebook's AlexNet and VGG, and SqueezeNet 1.1.

To add one, write a function from the number of classes to a ``HybridBlock`` and give it a line in `ARCHITECTURES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from cnn.data.images import PHOTO, Preprocessing
from cnn.support.backend import Network, mx
from cnn.support.errors import UserError


def alexnet(classes: int) -> Network:
    """The notebook's section "My first convolutional network": (n, 3, side, side) to (n, classes).

    Krizhevsky et al. 2012, for larger images; at 32 px its last three convolutions see maps of 2 × 2.
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


def squeezenet(classes: int) -> Network:
    """SqueezeNet 1.1: (n, 3, side, side) to (n, classes); ``features`` and ``output`` are its two parts.

    The model zoo's, but for a last pooling that takes any side: at 224 px it computes the same. Iandola et al.
    2016, https://arxiv.org/abs/1602.07360; notebook, section "Transfer Learning".
    """
    nn = mx.gluon.nn
    net = mx.gluon.model_zoo.vision.squeezenet1_1(classes=classes)
    output = nn.HybridSequential(prefix="")
    output.add(net.output[0], net.output[1], nn.GlobalAvgPool2D(), nn.Flatten())
    net.output = output
    return net


@dataclass(frozen=True)
class Architecture:
    """How a network is built, and the side, px, of the smallest square images that it takes."""

    build: Callable[[int], Network]
    smallest_side: int = 1


ARCHITECTURES: dict[str, Architecture] = {
    "alexnet": Architecture(alexnet),
    "vgg": Architecture(vgg, smallest_side=16),
    "squeezenet": Architecture(squeezenet, smallest_side=25),
}


def _known(name: str) -> str:
    if name not in ARCHITECTURES:
        raise ValueError(f"there is no architecture {name!r}; choose from {', '.join(ARCHITECTURES)}")
    return name


#: Name of one of `ARCHITECTURES`.
ArchitectureName = Annotated[str, AfterValidator(_known)]


class NetworkConfig(BaseModel):
    """What a network is: its architecture, its preprocessing, and how its outputs become logits.

    With ``mirrored_mean`` the logits are the mean of its outputs for an image and for the image's mirror image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: ArchitectureName
    preprocessing: Preprocessing
    mirrored_mean: bool = False

    @model_validator(mode="after")
    def _check_side(self) -> "NetworkConfig":
        side, smallest = self.preprocessing.crop, ARCHITECTURES[self.architecture].smallest_side
        if side < smallest:
            raise ValueError(
                f"images of {side} × {side} px are too small for {self.architecture}; "
                f"it takes {smallest} × {smallest} px or more"
            )
        return self

    def build(self, classes: int) -> Network:
        """The architecture for so many classes, without parameters."""
        return ARCHITECTURES[self.architecture].build(classes)


#: SqueezeNet as it was pretrained on ImageNet.
PRETRAINED = NetworkConfig(architecture="squeezenet", preprocessing=PHOTO)


def require_exportable(net: Network, name: str, side: int) -> None:
    """Refuse a network that could be trained but not published, or that does not take the images.

    Raises:
        UserError: it is no ``HybridBlock``, its layers cannot be traced as a graph, or nothing is left of images of
            ``side`` × ``side`` px at its end.
    """
    if not isinstance(net, mx.gluon.HybridBlock):
        raise UserError(f"{name}: expected a HybridBlock, which can be exported, found {type(net).__name__}.")
    try:
        graph = net(mx.sym.var("data", shape=(1, 3, side, side)))
    except Exception as error:  # whatever the code of the layers raises
        raise UserError(
            f"{name}: it cannot be exported as a graph ({error}); use F's operators, and no shapes."
        ) from error
    try:
        shapes: Any = graph.get_internals().infer_shape()[1]
        fits = all(all(shape) for shape in shapes)
    except mx.base.MXNetError:
        fits = False
    if not fits:
        raise UserError(f"{name}: it does not take images of {side} × {side} px; choose another side.")
