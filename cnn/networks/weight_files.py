"""Weights files of five formats (Gluon, ONNX, PyTorch, NumPy, Keras) as NumPy arrays under the names in the file.

Nothing in them is executed or unpickled, and what is read into memory is bounded by the size of the file.
"""

import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cnn.networks.keras_files import read_keras
from cnn.networks.torch_files import read_state_dict
from cnn.support.errors import UserError

#: A larger file is refused; with 1,000 classes SqueezeNet 1.1 takes 5 MB and ResNet-50 102.
MAX_BYTES = 128 << 20

#: How a Gluon parameter file and its arrays begin, and their element types (MXNet's src/ndarray/ndarray.cc).
_PARAMS_MAGIC = 0x112
_NDARRAY_VERSIONS = (0xF993FAC8, 0xF993FAC9, 0xF993FACA)
_NDARRAY_TYPES = dict(enumerate(("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")))

Tensors = Mapping[str, NDArray[Any]]


def _read_bytes(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise ValueError("it is truncated")
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
    _, _, code = _unpack(stream, "iii")  # the first two name the device that held the array
    if code not in _NDARRAY_TYPES:
        raise ValueError(f"one of its arrays has the unknown type {code}")
    dtype = np.dtype(_NDARRAY_TYPES[code])
    return np.frombuffer(_read_bytes(stream, math.prod(shape) * dtype.itemsize), dtype).reshape(shape)


def _read_gluon(content: bytes) -> Tensors:
    """Not read by ``mx.nd.load``, which allocates whatever length a damaged file states."""
    stream = io.BytesIO(content)
    magic, _, count = _unpack(stream, "QQQ")
    if magic != _PARAMS_MAGIC:
        raise ValueError("it does not begin as a parameter file does")
    arrays = [_read_ndarray(stream) for _ in range(count)]
    (named,) = _unpack(stream, "Q")
    if named != count:
        raise ValueError(f"it has {count} arrays and {named} names")
    return {_read_bytes(stream, *_unpack(stream, "Q")).decode(): array for array in arrays}


def _read_onnx(content: bytes) -> Tensors:
    import onnx  # slow, and not needed for the other formats

    tensors = onnx.load_model_from_string(content).graph.initializer
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ValueError(f"the values of {tensor.name!r} are in another file")
    settings = onnx.TensorProto.INT64  # shapes and axes; bounds have no axis
    weights = (tensor for tensor in tensors if tensor.dims and tensor.data_type != settings)
    return {str(tensor.name): onnx.numpy_helper.to_array(tensor) for tensor in weights}


def _read_npy(content: bytes) -> NDArray[Any]:
    """Not read by ``np.load``, which allocates whatever shape a damaged header states."""
    stream = io.BytesIO(content)
    old = np.lib.format.read_magic(stream) == (1, 0)
    read_header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(stream)
    return np.frombuffer(stream.read(), dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_numpy(content: bytes) -> Tensors:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"its arrays take more than {MAX_BYTES >> 20} MB")
        return {name.removesuffix(".npy"): _read_npy(archive.read(name)) for name in archive.namelist()}


#: What each kind of file is called and how it is read, by suffix.
_READERS: dict[str, tuple[str, Callable[[bytes], Tensors]]] = {
    ".params": ("Gluon parameters", _read_gluon),
    ".onnx": ("an ONNX model", _read_onnx),
    ".pth": ("a PyTorch state dict", read_state_dict),
    ".npz": ("a NumPy archive", _read_numpy),
    ".h5": ("a Keras file", read_keras),
}


def _read_content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{path}: it has {size >> 20} MB, expected at most {MAX_BYTES >> 20}; name another file.")
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name another file.") from error


def read_tensors(path: Path) -> Tensors:
    """Read all tensors of a weights file, each under the name that the file gives it.

    Raises:
        UserError: the file cannot be read, is too large, damaged, or of no known format.
        MemoryError, OSError: the machine ran out of memory, file descriptors or the like; the file may be good.
    """
    if path.suffix.lower() not in _READERS:
        raise UserError(f"{path}: weights are read from {', '.join(_READERS)} files; name one of these.")
    description, read = _READERS[path.suffix.lower()]
    content = _read_content(path)
    try:
        return read(content)
    except Exception as error:  # the libraries raise a dozen types for damaged data
        if isinstance(error, MemoryError | ImportError) or getattr(error, "errno", None):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[-1]
        raise UserError(
            f"{path}: cannot be read as {description} ({reason}); download it again or name another file."
        ) from error
