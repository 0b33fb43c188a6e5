"""Pretrained SqueezeNet 1.1 parameters from a Gluon, ONNX, PyTorch or NumPy file, all under Gluon's names."""

import io
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray

from cnn.errors import UserError
from cnn.torch_files import read_state_dict

#: Squeeze channels of the fire module at each index of ``features``; it expands to 4 + 4 times as many
#: (Iandola et al. 2016, table 1, in the arrangement of version 1.1).
_FIRE_MODULES = {3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64}
#: A larger file is not opened: SqueezeNet 1.1 with 1,000 classes takes 5 MB.
_MAX_BYTES = 64 << 20

#: How a Gluon parameter file and its arrays begin, and their element types (MXNet's src/ndarray/ndarray.cc).
_PARAMS_MAGIC = 0x112
_NDARRAY_VERSIONS = (0xF993FAC8, 0xF993FAC9, 0xF993FACA)
_NDARRAY_TYPES = dict(enumerate(("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")))

Tensors = Mapping[str, NDArray[Any]]


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
    """Gluon's structural name of what its flat naming or torchvision calls ``name``; others stay as they are.

    >>> structural_name("arg:squeezenet0_conv3_weight"), structural_name("features.3.expand3x3.weight")
    ('features.3.1.1.0.weight', 'features.3.1.1.0.weight')
    """
    if flat := re.fullmatch(r"(?:arg:)?(?:.*_)?conv(\d{1,2})_(weight|bias)", name):
        names = [known for known in expected_shapes(1) if known.endswith(flat[2])]
        return names[int(flat[1])] if int(flat[1]) < len(names) else name
    for theirs, ours in ((".squeeze.", ".0.0."), (".expand1x1.", ".1.0.0."), (".expand3x3.", ".1.1.0.")):
        name = name.replace(theirs, ours)
    return re.sub(r"^classifier\.1\.", "output.0.", name)


def _read_bytes(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise ValueError("it ends too early")
    return data


def _unpack(stream: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(f"<{layout}", _read_bytes(stream, struct.calcsize(f"<{layout}")))


def _read_ndarray(stream: BinaryIO) -> NDArray[Any]:
    """One array as MXNet's ``NDArray::Save`` writes it (src/ndarray/ndarray.cc), since release 0.11."""
    (version,) = _unpack(stream, "I")
    if version not in _NDARRAY_VERSIONS:
        raise ValueError(f"one of its arrays begins with {version:#x}")
    if version != _NDARRAY_VERSIONS[0] and _unpack(stream, "i") != (0,):
        raise ValueError("one of its arrays is sparse")
    (axes,) = _unpack(stream, "I")
    shape = _unpack(stream, f"{axes}q")
    _, _, kind = _unpack(stream, "iii")  # the first two say on which device the array was
    if kind not in _NDARRAY_TYPES:
        raise ValueError(f"one of its arrays has the unknown type {kind}")
    dtype = np.dtype(_NDARRAY_TYPES[kind])
    return np.frombuffer(_read_bytes(stream, math.prod(shape) * dtype.itemsize), dtype).reshape(shape)


def _read_gluon(path: Path) -> Tensors:
    """Not read by ``mx.nd.load``, which allocates as much as a damaged length says."""
    stream = io.BytesIO(path.read_bytes())
    magic, _, count = _unpack(stream, "QQQ")
    if magic != _PARAMS_MAGIC:
        raise ValueError("it does not begin as a parameter file does")
    arrays = [_read_ndarray(stream) for _ in range(count)]
    (named,) = _unpack(stream, "Q")
    if named != count:
        raise ValueError(f"it has {count} arrays and {named} names")
    return {_read_bytes(stream, *_unpack(stream, "Q")).decode(): array for array in arrays}


def _read_onnx(path: Path) -> Tensors:
    tensors = onnx.load(str(path), load_external_data=False).graph.initializer
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ValueError(f"the values of {tensor.name!r} lie in another file")
    return {str(tensor.name): onnx.numpy_helper.to_array(tensor) for tensor in tensors}


def _read_numpy(path: Path) -> Tensors:
    with np.load(path, allow_pickle=False) as archive:
        if sum(entry.file_size for entry in archive.zip.infolist()) > _MAX_BYTES:
            raise ValueError(f"its arrays take more than {_MAX_BYTES >> 20} MB")
        return {name: np.asarray(archive[name]) for name in archive.files}


#: How each kind of file is read, by its suffix.
_READERS: dict[str, tuple[str, Callable[[Path], Tensors]]] = {
    ".params": ("Gluon parameters", _read_gluon),
    ".onnx": ("an ONNX model", _read_onnx),
    ".pth": ("a PyTorch state dict", read_state_dict),
    ".npz": ("a NumPy archive", _read_numpy),
}


def _read_tensors(path: Path) -> Tensors:
    """All tensors of a file under the names it gives them."""
    if path.suffix.lower() not in _READERS:
        raise UserError(f"{path}: weights are read from {', '.join(_READERS)} files; name one of these.")
    kind, read = _READERS[path.suffix.lower()]
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ValueError(f"it has {size >> 20} MB, SqueezeNet 1.1 has about 5")
        return read(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); name another file.") from error
    except Exception as error:  # the libraries raise a dozen types for damaged data
        reason = (str(error).splitlines() or [type(error).__name__])[-1]
        sentence = f"{path}: cannot be read as {kind} ({reason}); fetch it again or name another file."
        raise UserError(sentence) from error


def _unfit(path: Path, name: str, expected: str, found: str) -> UserError:
    advice = "name a file with the weights of SqueezeNet 1.1"
    return UserError(f"{path}: tensor {name!r}: expected {expected}, found {found}; {advice}.")


def _names_in_file(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Which name the file gives to each of the network's tensors; it must hold them all and no others."""
    shapes = expected_shapes(1)
    given: dict[str, str] = {}
    for name in names:
        ours = structural_name(name)
        if ours not in shapes:
            raise _unfit(path, name, f"only the {len(shapes)} tensors of SqueezeNet 1.1", "this one as well")
        if ours in given:
            raise _unfit(path, name, f"one tensor for {ours}", f"{given[ours]!r} as well")
        given[ours] = name
    for ours in shapes:
        if ours not in given:
            raise _unfit(path, ours, f"{len(shapes)} tensors", f"{len(given)} and not this one")
    return given


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read SqueezeNet 1.1's 52 tensors by name, whatever naming and whichever of `_READERS` the file has.

    The number of classes is the file's own: the length of ``output.0.bias``.

    Raises:
        UserError: the file cannot be read, or a tensor is missing, too many, misshapen or not finite.
    """
    tensors = _read_tensors(path)
    names = _names_in_file(path, tensors)
    classes = max(1, tensors[names["output.0.bias"]].size)
    weights = {}
    for ours, shape in expected_shapes(classes).items():
        name = names[ours]
        tensor = tensors[name]
        if tensor.shape != shape:
            raise _unfit(path, name, f"the shape {shape}", f"{tensor.shape}")
        if tensor.dtype.kind != "f":
            raise _unfit(path, name, "floating-point values", f"{tensor.dtype}")
        with np.errstate(over="ignore"):
            weights[ours] = np.array(tensor, np.float32, order="C")
        if infinite := np.count_nonzero(~np.isfinite(weights[ours])):
            raise _unfit(path, name, "finite values", f"{infinite} of {tensor.size} that are not")
    return weights
