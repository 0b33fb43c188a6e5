"""Pretrained parameters of SqueezeNet 1.1 from a weights file of any known format, all under Gluon's names."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnn.networks.weight_files import read_tensors
from cnn.support.errors import UserError

#: Squeeze channels of the fire module at each index of ``features``; it expands to 4 + 4 times as many
#: (Iandola et al. 2016, table 1, in the arrangement of version 1.1).
_FIRE_MODULES = {3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64}


def expected_shapes(classes: int) -> dict[str, tuple[int, ...]]:
    """Shape of each of the 52 tensors under Gluon's structural name, in the order of the layers.

    >>> expected_shapes(2)["features.3.1.1.0.weight"], expected_shapes(2)["output.0.bias"]
    ((64, 16, 3, 3), (2,))
    """
    convolutions = {"features.0": (64, 3, 3)}
    channels = 64
    for index, squeezed in _FIRE_MODULES.items():
        convolutions[f"features.{index}.0.0"] = (squeezed, channels, 1)
        convolutions[f"features.{index}.1.0.0"] = (4 * squeezed, squeezed, 1)
        convolutions[f"features.{index}.1.1.0"] = (4 * squeezed, squeezed, 3)
        channels = 8 * squeezed
    convolutions["output.0"] = (classes, channels, 1)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (outputs, inputs, kernel) in convolutions.items():
        shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
        shapes[f"{name}.bias"] = (outputs,)
    return shapes


def structural_name(name: str) -> str:
    """Gluon's structural name for a flat Gluon name or a torchvision name; any other name is returned unchanged.

    >>> structural_name("arg:squeezenet0_conv3_weight"), structural_name("features.3.expand3x3.weight")
    ('features.3.1.1.0.weight', 'features.3.1.1.0.weight')
    """
    if flat := re.fullmatch(r"(?:arg:)?(?:.*_)?conv(\d{1,2})_(weight|bias)", name):
        names = [known for known in expected_shapes(1) if known.endswith(flat[2])]
        return names[int(flat[1])] if int(flat[1]) < len(names) else name
    for torchvision, gluon in ((".squeeze.", ".0.0."), (".expand1x1.", ".1.0.0."), (".expand3x3.", ".1.1.0.")):
        name = name.replace(torchvision, gluon)
    return re.sub(r"^classifier\.1\.", "output.0.", name)


def _misfit(path: Path, name: str, expected: str, found: str) -> str:
    advice = "name a file with the weights of SqueezeNet 1.1"
    return f"{path}: tensor {name!r}: expected {expected}, found {found}; {advice}."


def _names_in_file(path: Path, names: Iterable[str]) -> dict[str, str]:
    """The file's name for each of the network's tensors; the file must hold all of them and no others."""
    shapes = expected_shapes(1)
    in_file: dict[str, str] = {}
    for name in names:
        structural = structural_name(name)
        if structural not in shapes:
            raise UserError(_misfit(path, name, f"only the {len(shapes)} tensors of SqueezeNet 1.1", "this one too"))
        if structural in in_file:
            raise UserError(_misfit(path, name, f"one tensor for {structural}", f"{in_file[structural]!r} as well"))
        in_file[structural] = name
    for structural in shapes:
        if structural not in in_file:
            raise UserError(_misfit(path, structural, f"{len(shapes)} tensors", f"{len(in_file)} and not this one"))
    return in_file


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the 52 tensors of SqueezeNet 1.1 from a .params, .onnx, .pth, .npz or .h5 file.

    The names may be Gluon's, torchvision's or Keras'; the result has the names and the order of `expected_shapes`. The number
    of classes is the file's own: the length of ``output.0.bias``.

    Raises:
        UserError: the file cannot be read, or a tensor is missing, unknown, misshapen or not finite.
        MemoryError, OSError: the machine ran out of memory, file descriptors or the like.
    """
    tensors = read_tensors(path)
    names = _names_in_file(path, tensors)
    classes = max(1, tensors[names["output.0.bias"]].size)
    weights = {}
    for structural, shape in expected_shapes(classes).items():
        name = names[structural]
        tensor = tensors[name]
        if tensor.shape != shape:
            raise UserError(_misfit(path, name, f"the shape {shape}", f"{tensor.shape}"))
        if tensor.dtype.kind != "f":
            raise UserError(_misfit(path, name, "floating-point values", f"{tensor.dtype}"))
        with np.errstate(over="ignore"):
            weights[structural] = np.array(tensor, np.float32, order="C")
        if invalid := np.count_nonzero(~np.isfinite(weights[structural])):
            raise UserError(_misfit(path, name, "finite values", f"{invalid} of {tensor.size} that are not"))
    return weights
