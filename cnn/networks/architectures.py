"""The networks that can be trained, by name: the notebook's AlexNet and VGG, and backbones pretrained on ImageNet.

To add one, write a function from the number of classes to a ``HybridBlock`` and give it a line in `ARCHITECTURES`, or
in `BACKBONES` if there are pretrained weights. A backbone has two parts: ``features``, up to the last map (n, channels,
height, width), and ``output``, which has one layer with parameters, linear with a bias, and the mean over positions.
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


def _in_two_parts(zoo: Network, features: Network, *output: Network) -> Network:
    """The model zoo's network cut elsewhere; its parameters keep their flat names, which weights files use."""
    net = mx.gluon.nn.HybridSequential(prefix=zoo.prefix)
    net.features, net.output = features, mx.gluon.nn.HybridSequential(prefix="")
    net.output.add(*output)
    return net


def mobilenet_v2(classes: int) -> Network:
    """MobileNetV2 1.0: (n, 3, side, side) to (n, classes), the model zoo's with a bias in its last layer.

    Sandler et al. 2018, https://arxiv.org/abs/1801.04381.
    """
    nn = mx.gluon.nn
    zoo = mx.gluon.model_zoo.vision.mobilenet_v2_1_0(classes=classes)
    last = nn.Conv2D(classes, 1, prefix=zoo.output[0].prefix)
    return _in_two_parts(zoo, zoo.features[:-1], nn.GlobalAvgPool2D(), last, nn.Flatten())


def _resnet(zoo: Network) -> Network:
    return _in_two_parts(zoo, zoo.features[:-2], *zoo.features[-2:], zoo.output)


def resnet18_v2(classes: int) -> Network:
    """ResNet-18 with its activations first: (n, 3, side, side) to (n, classes), the model zoo's.

    He et al. 2016, https://arxiv.org/abs/1603.05027.
    """
    return _resnet(mx.gluon.model_zoo.vision.resnet18_v2(classes=classes))


def resnet50_v2(classes: int) -> Network:
    """ResNet-50 with its activations first: (n, 3, side, side) to (n, classes), the model zoo's, as `resnet18_v2`."""
    return _resnet(mx.gluon.model_zoo.vision.resnet50_v2(classes=classes))


@dataclass(frozen=True)
class Architecture:
    """How a network is built, and the side, px, of the smallest square images that it takes."""

    build: Callable[[int], Network]
    smallest_side: int = 1


#: Networks that are trained from scratch, by the names of their functions.
ARCHITECTURES: dict[str, Architecture] = {
    "alexnet": Architecture(alexnet),
    "vgg": Architecture(vgg, smallest_side=16),
    "squeezenet": Architecture(squeezenet, smallest_side=25),
}

#: Networks that were pretrained on ImageNet, by their names in Gluon's model zoo.
BACKBONES: dict[str, Architecture] = {
    "squeezenet1_1": ARCHITECTURES["squeezenet"],
    "mobilenetv2_1.0": Architecture(mobilenet_v2),
    "resnet18_v2": Architecture(resnet18_v2),
    "resnet50_v2": Architecture(resnet50_v2),
}


def find_architecture(name: str) -> Architecture:
    """The architecture of this name, of a backbone or another.

    Raises:
        ValueError: there is none.

    >>> find_architecture("resnet18_v2") is BACKBONES["resnet18_v2"]
    True
    """
    return _choose(ARCHITECTURES | {each.build.__name__: each for each in BACKBONES.values()}, name)


def _choose(known: dict[str, Architecture], name: str, kind: str = "architecture") -> Architecture:
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; choose from {', '.join(known)}")
    return known[name]


def _is_known(find: Callable[[str], object]) -> AfterValidator:
    def check(name: str) -> str:
        find(name)
        return name

    return AfterValidator(check)


#: Name of one of `ARCHITECTURES`.
ArchitectureName = Annotated[str, _is_known(lambda name: _choose(ARCHITECTURES, name))]
#: Name of one of `BACKBONES`.
BackboneName = Annotated[str, _is_known(lambda name: _choose(BACKBONES, name, "backbone"))]


class NetworkConfig(BaseModel):
    """What a network is: its architecture, its preprocessing, and how its outputs become logits.

    With ``mirrored_mean`` the logits are the mean of its outputs for an image and for the image's mirror image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Annotated[str, _is_known(find_architecture)]
    preprocessing: Preprocessing
    mirrored_mean: bool = False

    @model_validator(mode="after")
    def _check_side(self) -> "NetworkConfig":
        side, smallest = self.preprocessing.crop, find_architecture(self.architecture).smallest_side
        if side < smallest:
            raise ValueError(
                f"images of {side} × {side} px are too small for {self.architecture}; "
                f"it takes {smallest} × {smallest} px or more"
            )
        return self

    def build(self, classes: int) -> Network:
        """The architecture for so many classes, without parameters."""
        return find_architecture(self.architecture).build(classes)


def pretrained_network(backbone: str) -> NetworkConfig:
    """A backbone as it was pretrained on ImageNet; each was with the same preprocessing."""
    return NetworkConfig(architecture=BACKBONES[backbone].build.__name__, preprocessing=PHOTO)


#: SqueezeNet as it was pretrained on ImageNet.
PRETRAINED = pretrained_network("squeezenet1_1")


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
