"""Keras files (HDF5) of SqueezeNet 1.1: names, axes and input convention of the original, turned into Gluon's.

The original was trained with Caffe on blue, green, red, 0…255, minus `_CAFFE_MEAN`. As its first layer has no padding,
that folds exactly into it, and its input becomes red, green, blue, standardised like that of other weights.
"""

import io
import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.data.images import MEAN, STD

#: What Caffe's SqueezeNet subtracts from blue, green and red.
_CAFFE_MEAN = (104.006, 116.669, 122.679)
#: Fire module of the paper → its index in Gluon's ``features``.
_FIRE_MODULES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}
#: What else a tensor's name is made of, and Gluon's word for it.
_CONVOLUTIONS, _KINDS = {"conv1": "features.0", "conv10": "output.0"}, {"W:0": "weight", "b:0": "bias"}
_LAYERS = {"squeeze1x1": "0.0", "expand1x1": "1.0.0", "expand3x3": "1.1.0"}


def _structural_name(name: str) -> str:
    """Gluon's name for a tensor; one that SqueezeNet does not have stays as it is.

    >>> _structural_name("fire3/expand3x3/fire3/expand3x3_W:0"), _structural_name("conv10/conv10_b:0")
    ('features.4.1.1.0.weight', 'output.0.bias')
    """
    layer, kind = name.rpartition("/")[2].partition("_")[::2]
    fire = re.match(r"fire([2-9])/", name)
    known = _CONVOLUTIONS.get(layer)
    if fire and layer in _LAYERS:
        known = f"features.{_FIRE_MODULES[int(fire[1])]}.{_LAYERS[layer]}"
    return f"{known}.{_KINDS[kind]}" if known and kind in _KINDS else name


def read_keras(content: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a Keras file under Gluon's names, in Gluon's order of axes, for RGB input as `cnn.data.images`.

    Datasets are read only if their values lie in the file as they are: nothing is unpacked, no other file is opened,
    and no more memory is taken than the file has bytes.

    Raises:
        OSError, ValueError, RuntimeError, KeyError: the file is damaged, or is no SqueezeNet 1.1.
    """
    import h5py  # slow, and not needed for other formats

    tensors: dict[str, NDArray[Any]] = {}
    bytes_left = len(content)

    def collect(name: str, item: Any) -> None:
        nonlocal bytes_left
        if not isinstance(item, h5py.Dataset):
            return
        known = _structural_name(name)
        if known in tensors:
            raise ValueError(f"it has {known!r} twice")
        if item.dtype.kind != "f" or item.shape is None:
            raise ValueError(f"the values of {name!r} are not floating-point numbers")
        if item.chunks or item.external or item.is_virtual:
            raise ValueError(f"the values of {name!r} are packed, or in another file; save them uncompressed")
        bytes_left -= math.prod(item.shape) * item.dtype.itemsize
        if bytes_left < 0:
            raise ValueError(f"the values of {name!r} are more than the file has")
        values = item[()]
        tensors[known] = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values

    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(collect)
    weight, bias = (tensors.get(f"features.0.{kind}") for kind in ("weight", "bias"))
    if weight is None or bias is None or weight.shape != (64, 3, 3, 3) or bias.shape != (64,):
        raise ValueError("its first layer is not SqueezeNet 1.1's, 64 filters of 3 × 3 in TensorFlow's order")
    return tensors | _for_standardised_rgb(weight, bias)


def _for_standardised_rgb(weight: NDArray[Any], bias: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The first layer's weight (n, 3, height, width) and bias (n,) for red, green and blue, standardised."""
    flipped = weight[:, ::-1].astype(np.float64)
    mean, std = 255 * np.array(MEAN), 255 * np.array(STD)
    moved = bias + (flipped.sum(axis=(2, 3)) * (mean - _CAFFE_MEAN[::-1])).sum(1)
    return {
        "features.0.weight": (flipped * std[:, None, None]).astype(np.float32),
        "features.0.bias": moved.astype(np.float32),
    }
