"""PyTorch's files written as PyTorch writes them, without PyTorch: by a Pickler whose names are torch's."""

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]


class Storage:
    def __init__(self, values: NDArray[Any], key: str) -> None:
        self.data, self.length, self.key = values.tobytes(), values.size, key


class Tensor:
    """A tensor ``offset`` elements into a storage, where its axes are reversed if it is ``transposed``."""

    def __init__(self, array: NDArray[Any], key: str, offset: int = 0, transposed: bool = False) -> None:
        laid = array.transpose() if transposed else array
        self.storage = Storage(np.concatenate([np.zeros(offset, array.dtype), laid.ravel()]), key)
        strides = np.ascontiguousarray(laid).strides
        stride = tuple(step // array.itemsize for step in (strides[::-1] if transposed else strides))
        self.layout = (offset, array.shape, stride)

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, *self.layout, False, OrderedDict())


def torch_pickle(value: object, *legacy_end: None) -> bytes:
    """Protocol 2, with torch's names put in place while it is written."""
    modules = {name: ModuleType(name) for name in ("torch", "torch._utils")}
    kind = type("FloatStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    modules["torch"].FloatStorage = kind  # type: ignore[attr-defined]
    modules["torch._utils"]._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: Any) -> Any:
            if isinstance(item, Storage):
                return ("storage", kind, item.key, "cpu", item.length, *legacy_end)
            return None

    stream = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def zip_pth(content: bytes, storages: Mapping[str, bytes], order: str = "little") -> bytes:
    """A file of the format since PyTorch 1.6."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", order)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def legacy_pth(content: bytes, storages: Mapping[str, bytes]) -> bytes:
    """A file of the format before PyTorch 1.6."""
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    head = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    keys = pickle.dumps(list(storages), protocol=2)
    tail = [struct.pack("<q", len(data) // 4) + data for data in storages.values()]
    return b"".join([*head, content, keys, *tail])


def state_dict(tensors: Tensors, **layout: Any) -> tuple[OrderedDict[str, Tensor], dict[str, bytes]]:
    """What ``model.state_dict()`` returns, and the bytes of its storages."""
    state = OrderedDict((name, Tensor(array, f"key of {name}", **layout)) for name, array in tensors.items())
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]  # PyTorch's modules do so
    return state, {tensor.storage.key: tensor.storage.data for tensor in state.values()}


def write_zip_pth(path: Path, tensors: Tensors, **layout: Any) -> None:
    state, storages = state_dict(tensors, **layout)
    path.write_bytes(zip_pth(torch_pickle(state), storages))


def write_legacy_pth(path: Path, tensors: Tensors, **layout: Any) -> None:
    state, storages = state_dict(tensors, **layout)
    path.write_bytes(legacy_pth(torch_pickle(state, None), storages))
