"""Networks as things that run: their parameters by name, random values for them, compiled and run on devices."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.backend import Device, Network, mx, structural_parameters
from cnn.pictures import CROP
from cnn.squeezenet import squeezenet

Parameters = Mapping[str, NDArray[np.float32]]


_drawing = threading.Lock()


def initialise(net: Network, side: int, devices: Sequence[Device], seed: int, initializer: Any = "uniform") -> Network:
    """Give a network for pictures of ``side`` px random parameters; Gluon's default draws them.

    The same seed gives the same parameters on any device.
    """
    with _drawing:  # networks that train side by side must not draw from one another's sequence
        mx.random.seed(seed, ctx=mx.cpu())
        net.initialize(initializer, ctx=mx.cpu())
        net(mx.nd.zeros((1, 3, side, side)))  # parameters get their shapes, and values, at the first forward pass
    net.collect_params().reset_ctx(list(devices))
    return net


def parameters(block: Network) -> dict[str, NDArray[np.float32]]:
    """A block's parameters by their structural names (``features.0.weight`` …)."""
    return {name: p.data(p.list_ctx()[0]).asnumpy() for name, p in structural_parameters(block).items()}


def set_parameters(block: Network, values: Parameters, prefix: str = "") -> None:
    """Set those parameters of ``block`` whose name begins with ``prefix``; each must be in ``values``."""
    for name, parameter in structural_parameters(block).items():
        if name.startswith(prefix):
            parameter.set_data(mx.nd.array(values[name]))


def set_dropout(block: Network, share: float) -> None:
    """Have all dropout layers in ``block`` drop a ``share`` 0…1 of the values while it learns."""

    def set_share(layer: Network) -> None:
        if isinstance(layer, mx.gluon.nn.Dropout):
            layer._rate = share  # Gluon offers no other way to change it

    block.apply(set_share)


def random_parameters(seed: int) -> dict[str, NDArray[np.float32]]:
    """SqueezeNet parameters without any training: what pretrained ones are measured against.

    Drawn so that activations keep their size (He et al. 2015, https://arxiv.org/abs/1502.01852); each filter of the
    features then sums to 0, so that it answers to contrast and not to brightness.
    """
    net = initialise(squeezenet(1000), CROP, [mx.cpu()], seed, mx.init.MSRAPrelu(factor_type="in", slope=0))
    values = parameters(net)
    for name, filters in values.items():
        if name.startswith("features") and name.endswith("weight"):
            values[name] = 1.2 * (filters - filters.mean(axis=(1, 2, 3), keepdims=True))
    return values


class MirroredMean(mx.gluon.HybridBlock):
    """The mean of a network's outputs for pictures, (n, 3, height, width), and for their mirror images."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def hybrid_forward(self, F: Any, pictures: Any) -> Any:  # noqa: N803  (Gluon's name)
        """Outputs as the network's; ``F`` is MXNet's module of operators, on arrays or on symbols."""
        from_the_right = F.contrib.arange_like(pictures, start=-1, step=-1, axis=3)  # flip's ONNX export is broken
        mirrored = F.take(pictures, from_the_right, axis=3, mode="wrap")
        return (self.net(pictures) + self.net(mirrored)) / 2


def compile_network(block: Network) -> Network:
    """Hybridize with static memory: two to three times the speed of the imperative network.

    Every call must then have the same shape; another shape is planned anew.
    """
    block.hybridize(static_alloc=True, static_shape=True)
    return block


def run_batches(
    block: Network, batches: Iterable[NDArray[np.float32]], devices: Sequence[Device], size: int
) -> Iterator[NDArray[np.float32]]:
    """Run a compiled block on batches of at most ``size`` inputs each, (n, …) to (n, …), shared by the devices.

    While the devices work on one batch, the next is taken from ``batches``.
    """
    running: tuple[int, list[Any]] | None = None
    for batch in batches:
        count = len(batch)
        if count < size:  # a batch of another size would be planned anew, so it is filled up with zeros
            batch = np.concatenate([batch, np.zeros((size - count, *batch.shape[1:]), np.float32)])
        parts = mx.gluon.utils.split_and_load(mx.nd.array(batch), list(devices), even_split=False)
        earlier, running = running, (count, [block(part) for part in parts])
        if earlier:
            yield _collect(*earlier)
    if running:
        yield _collect(*running)


def _collect(count: int, outputs: list[Any]) -> NDArray[np.float32]:
    return np.concatenate([output.asnumpy() for output in outputs])[:count]
