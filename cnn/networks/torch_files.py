"""PyTorch's state dicts (.pth) as NumPy arrays, without PyTorch and without running the pickle inside.

A pickle is a program for a stack machine. `_interpret` is that machine reduced to what
``torch.save(model.state_dict(), ...)`` writes: it builds plain values and calls only the functions listed in
`_GLOBALS`. Both formats are read: the one of ``_save`` and the one of ``_legacy_save`` in torch/serialization.py.
"""

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the pickle of 0x1950a86a20f9469cfc6c


class _Storage(NamedTuple):
    """A sequence of ``length`` values, stored outside the pickle under the name ``key``."""

    dtype: np.dtype[Any]
    key: str
    length: int


class _Tensor(NamedTuple):
    """A view of a storage; ``offset`` and ``stride`` count elements."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def view(self, data: bytes) -> NDArray[Any]:
        """The tensor as a view of its storage's ``data``; NumPy checks the bounds."""
        dtype = self.storage.dtype
        expected = self.storage.length * dtype.itemsize
        if len(data) != expected:
            raise ValueError(f"storage {self.storage.key} has {len(data)} bytes, expected {expected}")
        strides = [step * dtype.itemsize for step in self.stride]
        array: NDArray[Any] = np.ndarray(self.size, dtype, data, self.offset * dtype.itemsize, strides)
        if array.nbytes > len(data):
            raise ValueError(f"a tensor of {array.nbytes} bytes repeats a storage of {expected} bytes")
        return array


def _tensor(storage: object, offset: Any, size: Any, stride: Any, *_: object) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("it has a tensor without a storage")
    return _Tensor(storage, offset, size, stride)


_NEW_VALUES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
#: The only globals that a state dict's pickle may name, and what replaces each of them here.
_GLOBALS: dict[str, Any] = {
    "collections OrderedDict": lambda: {},
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
    "torch HalfStorage": np.dtype("<f2"),
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch LongStorage": np.dtype("<i8"),
}


def _global(name: str) -> Any:
    if name not in _GLOBALS:
        found = name.replace(" ", ".")
        raise ValueError(f"its pickle names {found}, expected only half, float, double or long tensors")
    return _GLOBALS[name]


def _storage(identifier: object) -> _Storage:
    """The storage that a persistent id denotes; a legacy id ends in None, or in a view, which is refused."""
    match identifier:
        case ("storage", np.dtype() as dtype, str() as key, _, int() as length, *view) if not any(view):
            return _Storage(dtype, key, length)
    raise ValueError("it has a storage of an unknown form")


def _take(stack: list[Any], start: int) -> list[Any]:
    items = stack[start:]
    del stack[start:]
    return items


def _set_items(target: dict[str, Any], items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str):  # hashing a deeply nested key would overflow C's stack
            raise ValueError("it has a dictionary whose keys are not text")
        target[key] = value


def _interpret(stream: BinaryIO) -> Any:
    """Interpret one pickle up to its STOP and return what it builds; the stream is left at the pickle's end."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "PROTO" | "STOP":
                pass
            case "MARK":
                marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                stack.append(argument)
            case name if name in _NEW_VALUES:
                stack.append(_NEW_VALUES[name]())
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                stack.append(tuple(_take(stack, marks.pop() if name == "TUPLE" else -int(name[-1]))))
            case "APPEND" | "APPENDS" as name:
                items = _take(stack, marks.pop() if name == "APPENDS" else -1)
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS" as name:
                items = _take(stack, marks.pop() if name == "SETITEMS" else -2)
                _set_items(stack[-1], items)
            case "GLOBAL":
                stack.append(_global(str(argument)))
            case "REDUCE":
                function, arguments = _take(stack, -2)
                stack.append(function(*arguments))
            case "BUILD":
                stack.pop()  # the attributes of the state dict, such as its _metadata
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case name:
                raise ValueError(f"its pickle has the instruction {name}, which no state dict needs")
    return stack.pop()


def _state_dict(value: Any) -> dict[str, _Tensor]:
    if not isinstance(value, dict):
        raise ValueError("it is not a state dict; save only model.state_dict()")
    for name, tensor in value.items():
        if not isinstance(tensor, _Tensor):
            raise ValueError(f"its {name!r} is not a tensor; save only model.state_dict()")
    return value


def _read_zip(stream: io.BytesIO) -> dict[str, NDArray[Any]]:
    """The format since PyTorch 1.6: data.pkl, and data/KEY for each storage, in one folder of any name."""
    with zipfile.ZipFile(stream) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > len(stream.getbuffer()):
            raise ValueError("its archive states more bytes than the file has")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"its archive has {len(pickles)} files data.pkl, expected one")
        folder = pickles[0].removesuffix("/data.pkl")
        order = f"{folder}/byteorder"  # since PyTorch 2.1
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("its byte order is not little-endian")
        tensors = _state_dict(_interpret(io.BytesIO(archive.read(pickles[0]))))
        keys = {tensor.storage.key for tensor in tensors.values()}
        data = {key: archive.read(f"{folder}/data/{key}") for key in keys}
    return {name: tensor.view(data[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_legacy(stream: io.BytesIO) -> dict[str, NDArray[Any]]:
    """The format before PyTorch 1.6: five pickles, then each storage as an int64 count and its values."""
    for _ in ("magic number", "protocol version", "system"):
        _interpret(stream)
    tensors = _state_dict(_interpret(stream))
    itemsize = {tensor.storage.key: tensor.storage.dtype.itemsize for tensor in tensors.values()}
    data = {}
    for key in map(str, _interpret(stream)):
        (length,) = struct.unpack("<q", stream.read(8))
        data[key] = stream.read(length * itemsize[key])
    return {name: tensor.view(data[tensor.storage.key]) for name, tensor in tensors.items()}


def read_state_dict(content: bytes) -> dict[str, NDArray[Any]]:
    """Read a file's content as a state dict of half, float, double or long tensors: a read-only array for each name.

    Raises:
        ValueError: the content is damaged or not a state dict, or its pickle names anything but tensors.
    """
    if not content.startswith((_ZIP_MAGIC, _LEGACY_MAGIC)):
        raise ValueError("it does not begin as a PyTorch file does")
    read = _read_zip if content.startswith(_ZIP_MAGIC) else _read_legacy
    try:
        return read(io.BytesIO(content))
    except (MemoryError, ValueError):
        raise
    except Exception as error:  # a damaged pickle or archive can raise almost any type
        raise ValueError(f"it is damaged: {error}") from error
