"""Running networks: parameters by name, random values for them, compiled and run on one or several devices."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.networks.architectures import NetworkConfig
from cnn.networks.exporting import export_onnx
from cnn.networks.sessions import PHOTOS_ON_GPU, Arrays, Session, at_once, joined, separated
from cnn.support.backend import CPU, Devices, Network, mx, structural_parameters

#: Values by structural name (``features.0.weight`` …).
Parameters = Mapping[str, NDArray[np.float32]]


def initialise(net: Network, side: int, seed: int, initializer: Any = "uniform", devices: Devices = CPU) -> Network:
    """Give a network for images of ``side`` px random parameters; Gluon's default draws them.

    The same seed gives the same parameters on any device; each thread draws from a sequence of its own.
    """
    mx.random.seed(seed, ctx=mx.cpu())
    net.initialize(initializer, ctx=mx.cpu())
    net(mx.nd.zeros((1, 3, side, side)))  # parameters get their shapes, and values, at the first forward pass
    net.collect_params().reset_ctx(devices.contexts)
    return net


def parameters(block: Network) -> dict[str, NDArray[np.float32]]:
    """A block's parameters by their structural names."""
    return {name: p.data(p.list_ctx()[0]).asnumpy() for name, p in structural_parameters(block).items()}


def set_parameters(block: Network, values: Parameters, prefix: str = "") -> None:
    """Set those parameters of ``block`` whose name begins with ``prefix``; each must be in ``values``."""
    for name, parameter in structural_parameters(block).items():
        if name.startswith(prefix):
            parameter.set_data(mx.nd.array(values[name]))


def set_dropout(block: Network, share: float) -> None:
    """Have all dropout layers in ``block`` drop a ``share`` 0…1 of the values during training."""

    def set_share(layer: Network) -> None:
        if isinstance(layer, mx.gluon.nn.Dropout):
            layer._rate = share  # Gluon offers no other way to change it

    block.apply(set_share)


def with_parameters(config: NetworkConfig, classes: int, values: Parameters, devices: Devices = CPU) -> Network:
    """The network of a configuration for so many classes, with these parameters, ready to predict.

    It maps preprocessed images (n, 3, side, side) to logits (n, classes).
    """
    net = initialise(config.build(classes), config.preprocessing.crop, seed=0, devices=devices)
    set_parameters(net, values)
    return mirrored_mean(net) if config.mirrored_mean else net


def mirror(F: Any, maps: Any) -> Any:  # noqa: N803  (as in `mirrored_mean`)
    """The mirror images of maps, (n, channels, height, width), by the operators ``F`` of arrays or symbols."""
    from_the_right = F.contrib.arange_like(maps, start=-1, step=-1, axis=3)  # flip's ONNX export is broken
    return F.take(maps, from_the_right, axis=3, mode="wrap")


def mirrored_mean(net: Network) -> Network:
    """A block that gives the mean of a network's outputs for images and for their mirror images.

    Its input is (n, 3, height, width), its output that of ``net``.
    """

    class MirroredMean(mx.gluon.HybridBlock):  # here, as MXNet is imported at its first use only
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def hybrid_forward(self, F: Any, images: Any) -> Any:  # noqa: N803  (Gluon's name for arrays' or symbols' operators)
            return (self.net(images) + self.net(mirror(F, images))) / 2

    return MirroredMean()


def compile_network(block: Network) -> Network:
    """Hybridize with static memory: two to three times the speed of the imperative network.

    Every call must then have the same shape; another shape is planned anew.
    """
    block.hybridize(static_alloc=True, static_shape=True)
    return block


def run_batches(block: Network, batches: Iterable[NDArray[np.float32]], devices: Devices = CPU) -> Iterator[Arrays]:
    """The outputs, (n, …) each, of a compiled block for batches (n, …), none larger than the first.

    Each is split over the devices. While these work on one batch, the next is taken from ``batches``.
    """
    running: tuple[int, list[Any]] | None = None
    size = 0
    for batch in batches:
        count = len(batch)
        size = size or max(count, len(devices.numbers))
        if count < size:  # a batch of another size would be planned anew, so it is padded with zeros
            batch = np.concatenate([batch, np.zeros((size - count, *batch.shape[1:]), np.float32)])
        parts = mx.gluon.utils.split_and_load(mx.nd.array(batch), devices.contexts, even_split=False)
        earlier, running = running, (count, [block(part) for part in parts])
        if earlier:
            yield _collect(*earlier)
    if running:
        yield _collect(*running)


def _collect(count: int, parts: Sequence[Any]) -> Arrays:
    """Outputs that lie on several devices, as arrays."""
    outputs = zip(*(part if isinstance(part, list | tuple) else [part] for part in parts), strict=True)
    return tuple(np.concatenate([each.asnumpy() for each in output])[:count] for output in outputs)


class Runner:
    """A network that answers: on a CPU by onnxruntime, an image on each core; on GPUs by MXNet, in batches.

    On a CPU onnxruntime takes a third to a half of MXNet's time, and gives the same to 1e-4 (tested). Images smaller
    than a photo are run together.
    """

    def __init__(self, net: Network, side: int, devices: Devices = CPU) -> None:
        self._devices, self._side = devices, side
        if devices == CPU:
            with TemporaryDirectory() as folder:
                export_onnx(net, path := Path(folder) / "network.onnx", side)
                self._session = Session(path)
        else:
            self._net = compile_network(net)

    def __call__(self, inputs: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """The outputs (k, …) for each of the inputs (k, 3, side, side), the first where there are several.

        All inputs have the same k.
        """
        return (first for first, *_ in self.all_outputs(inputs))

    def all_outputs(self, inputs: Iterable[NDArray[np.float32]]) -> Iterator[Arrays]:
        """As `__call__`, but every output of a network that has several."""
        if self._devices == CPU:
            yield from self._session.all_outputs(inputs)
            return
        counts: deque[int] = deque()
        batches = joined(inputs, at_once(PHOTOS_ON_GPU, self._side), counts)
        for outputs in run_batches(self._net, batches, self._devices):
            yield from separated(outputs, counts.popleft())
