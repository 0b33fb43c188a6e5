"""Networks that answer: with probabilities, and with why: their features, and what each position says."""

from typing import Any

from cnn.networks.architectures import NetworkConfig
from cnn.networks.running import Parameters, initialise, mirror, set_parameters
from cnn.networks.sessions import PROBABILITIES
from cnn.support.backend import CPU, Devices, Network, mx

#: Names of the outputs, in their order; a network may give only the first, or the first two.
OUTPUTS = (PROBABILITIES, "features", "activations")


def answering(
    config: NetworkConfig,
    classes: int,
    values: Parameters,
    *,
    temperature: float = 1.0,
    explains: bool = False,
    devices: Devices = CPU,
) -> Network:
    """A network with these parameters that maps preprocessed images (n, 3, side, side) to its answers.

    These are the probabilities (n, classes), the softmax of logits divided by the ``temperature``; what its last layer
    takes, the features (n, channels) of the image itself, where its parts are known; and, if it ``explains``, which
    needs a linear head on the means of maps, the activations (n, classes, height, width): the logits that each position
    would have alone, whose mean is the answer (class activation mapping, Zhou et al. 2016,
    https://arxiv.org/abs/1512.04150). With ``mirrored_mean`` logits and activations are the mean for an image and,
    mirrored back, for its mirror image.
    """
    side = config.preprocessing.crop
    net = initialise(config.build(classes), side, seed=0, devices=devices)
    set_parameters(net, values)
    features, output = _parts(net)
    black = mx.nd.zeros((1, 3, side, side), ctx=devices.contexts[0])
    shape: tuple[int, ...] = features(black).shape if features else ()
    return _block(features, output, shape, classes, config.mirrored_mean, explains=explains, temperature=temperature)


def _block(
    features: Any,
    output: Network,
    shape: tuple[int, ...],
    classes: int,
    mirrored: bool,
    *,
    explains: bool,
    temperature: float,
) -> Network:
    """The network that `answering` describes, of its two parts; the first makes (n, *shape[1:]) of images."""

    class Answering(mx.gluon.HybridBlock):  # here, as MXNet is imported at its first use only
        def __init__(self) -> None:
            super().__init__()
            self.features, self.output = features, output

        def hybrid_forward(self, F: Any, images: Any) -> Any:  # noqa: N803  (Gluon's name for arrays' or symbols' operators)
            if mirrored:  # in one pass, as onnxruntime computes in integers only with weights that are used once
                images = F.concat(images, mirror(F, images), dim=0)
            seen = self.features(images) if features else images
            said = _by_position(F, self.output, seen, shape, classes) if explains else self.output(seen)
            known = [_mean(F, seen) if len(shape) == 4 else seen] if features else []
            if mirrored:
                size = (classes, *shape[2:]) if explains else (classes,)
                own, other = (_half(F, said, each, size) for each in (0, 1))
                said = (own + (mirror(F, other) if explains else other)) / 2
                known = [_half(F, each, 0, shape[1:2]) for each in known]
            probabilities = F.softmax((_mean(F, said) if explains else said) / temperature)
            return [probabilities, *known, said] if explains else [probabilities, *known]

    return Answering()


def _half(F: Any, values: Any, number: int, size: tuple[int, ...]) -> Any:  # noqa: N803
    """The first (0) or second (1) half of values (2 n, *size): (n, *size)."""
    halves = F.reshape(values, shape=(2, -1, *size))
    return F.reshape(F.slice_axis(halves, axis=0, begin=number, end=number + 1), shape=(-1, *size))


def _mean(F: Any, maps: Any) -> Any:  # noqa: N803
    """The mean over the positions of maps, (n, channels)."""
    return F.flatten(F.Pooling(maps, global_pool=True, pool_type="avg", kernel=(1, 1)))


def _by_position(F: Any, output: Network, maps: Any, shape: tuple[int, ...], classes: int) -> Any:  # noqa: N803
    """What a network's last part gives at each position of maps (n, *shape[1:]) alone: (n, classes, height, width)."""
    _, channels, height, width = shape
    logits = output(F.reshape(F.transpose(maps, axes=(0, 2, 3, 1)), shape=(-1, channels, 1, 1)))
    return F.transpose(F.reshape(logits, shape=(-1, height, width, classes)), axes=(0, 3, 1, 2))


def _parts(net: Network) -> tuple[Any, Network]:
    """What makes features, unless that is not known of a user's own block, and what makes logits of them."""
    if hasattr(net, "features") and hasattr(net, "output"):
        return net.features, net.output
    return (net[:-1], net[-1]) if isinstance(net, mx.gluon.nn.HybridSequential) and len(net) > 1 else (None, net)
