"""Pretrained parameters of a network from a weights file of any known format, all under Gluon's structural names."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnn.data.images import PHOTO
from cnn.networks.architectures import PRETRAINED, find_architecture
from cnn.networks.weight_files import read_tensors
from cnn.support.backend import mx, structural_parameters
from cnn.support.errors import UserError

Shape = tuple[int, ...]
#: What torchvision calls the parts of SqueezeNet, and what Gluon does.
_TORCHVISION = ((".squeeze.", ".0.0."), (".expand1x1.", ".1.0.0."), (".expand3x3.", ".1.1.0."))


def expected_shapes(architecture: str, classes: int) -> dict[str, Shape]:
    """Shape of each tensor of a network for so many classes under its structural name, in the order of the layers.

    >>> expected_shapes("squeezenet", 2)["features.3.1.1.0.weight"], expected_shapes("resnet18_v2", 2)["output.2.bias"]
    ((64, 16, 3, 3), (2,))
    """
    return _layout(architecture, classes)[0]


def _layout(architecture: str, classes: int) -> tuple[dict[str, Shape], dict[str, str]]:
    """Shapes by structural name, and structural names by flat name without the network's prefix."""
    net = find_architecture(architecture).build(classes)
    net.infer_shape(mx.nd.zeros((1, 3, PHOTO.crop, PHOTO.crop)))
    parameters = structural_parameters(net)
    flat = {parameter.name.removeprefix(net.prefix): name for name, parameter in parameters.items()}
    return {name: parameter.shape for name, parameter in parameters.items()}, flat


def _structural_name(name: str, flat: Mapping[str, str]) -> str:
    """Gluon's structural name for a flat Gluon name, whatever its prefix, or for a torchvision name.

    Any other name is returned unchanged.

    >>> _structural_name("arg:resnetv24_stage1_conv0_weight", {"stage1_conv0_weight": "a", "conv0_weight": "b"})
    'a'
    >>> _structural_name("features.3.expand3x3.weight", {})
    'features.3.1.1.0.weight'
    """
    rest = re.sub("^(arg|aux):", "", name)
    while rest:
        if rest in flat:
            return flat[rest]
        rest = rest.partition("_")[2]
    for torchvision, gluon in _TORCHVISION:
        name = name.replace(torchvision, gluon)
    return re.sub(r"^classifier\.1\.", "output.0.", name)


class _Reader:
    """Reads one file as the weights of one architecture."""

    def __init__(self, path: Path, architecture: str) -> None:
        self._path, self._architecture = path, architecture
        self._shapes, self._flat = _layout(architecture, 1)

    def _misfit(self, name: str, expected: str, found: str) -> UserError:
        advice = f"name a file with the weights of {self._architecture}"
        return UserError(f"{self._path}: tensor {name!r}: expected {expected}, found {found}; {advice}.")

    def _names_in_file(self, names: Iterable[str]) -> dict[str, str]:
        """The file's name for each of the network's tensors; it holds all of the features' and no others."""
        count, in_file = len(self._shapes), dict[str, str]()
        for name in names:
            structural = _structural_name(name, self._flat)
            if structural not in self._shapes:
                raise self._misfit(name, f"only the {count} tensors of {self._architecture}", "this one too")
            if structural in in_file:
                raise self._misfit(name, f"one tensor for {structural}", f"{in_file[structural]!r} as well")
            in_file[structural] = name
        for structural in self._shapes:
            if structural.startswith("features.") and structural not in in_file:
                raise self._misfit(structural, f"{count} tensors", f"{len(in_file)} and not this one")
        return in_file

    def _check(self, name: str, tensor: NDArray[np.generic], shape: Shape) -> NDArray[np.float32]:
        if tensor.shape != shape:
            raise self._misfit(name, f"the shape {shape}", f"{tensor.shape}")
        if tensor.dtype.kind != "f":
            raise self._misfit(name, "floating-point values", f"{tensor.dtype}")
        with np.errstate(over="ignore"):
            values = np.array(tensor, np.float32, order="C")
        if invalid := np.count_nonzero(~np.isfinite(values)):
            raise self._misfit(name, "finite values", f"{invalid} of {tensor.size} that are not")
        return values

    def read(self) -> dict[str, NDArray[np.float32]]:
        """The tensors by structural name."""
        tensors = read_tensors(self._path)
        names = self._names_in_file(tensors)
        output = [tensors[names[each]] for each in self._shapes if each.startswith("output.") and each in names]
        classes = len(output[0]) if output and output[0].ndim else 1
        weights = {}
        for structural, shape in self._shapes.items():
            if structural in names:
                expected = (classes, *shape[1:]) if structural.startswith("output.") else shape
                weights[structural] = self._check(names[structural], tensors[names[structural]], expected)
        return weights


def read_weights(path: Path, architecture: str = PRETRAINED.architecture) -> dict[str, NDArray[np.float32]]:
    """Read the tensors of a network from a .params, .onnx, .pth, .npz or .h5 file.

    The names may be Gluon's, and for SqueezeNet torchvision's or Keras', too; the result has the names and the order of
    `expected_shapes`. The number of classes is the file's own. Tensors of the last layer may be missing, as transfer
    learning replaces it.

    Raises:
        UserError: the file cannot be read, or a tensor is missing, unknown, misshapen or not finite.
        MemoryError, OSError: the machine ran out of memory, file descriptors or the like.
    """
    return _Reader(path, architecture).read()
