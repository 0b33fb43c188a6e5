"""State dicts are read as PyTorch means them; nothing in a pickle is run."""

import os
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_pickles import Tensor, legacy_pth, state_dict, torch_pickle, zip_pth

from cnn.networks.torch_files import read_state_dict

CONTAINERS = pytest.mark.parametrize("container", [zip_pth, legacy_pth])


def one_tensor(offset: int, size: Any, stride: Any, storage: bytes = np.arange(4, dtype=np.float32).tobytes()) -> bytes:
    """A file with the tensor ``w``, a view of a storage that the pickle says to have four floats."""
    tensor = Tensor(np.zeros(4, np.float32), "0")
    tensor.layout = (offset, size, stride)
    return zip_pth(torch_pickle({"w": tensor}), {"0": storage})


def test_view_of_a_storage() -> None:
    content = one_tensor(1, (3,), (1,))
    assert read_state_dict(content)["w"].tolist() == [1, 2, 3]
    assert read_state_dict(one_tensor(0, (2, 2), (1, 2)))["w"].tolist() == [[0, 2], [1, 3]]


def test_tensors_share_a_storage() -> None:
    first, second = Tensor(np.arange(4, dtype=np.float32), "0"), Tensor(np.arange(4, dtype=np.float32), "0")
    second.layout = (2, (2,), (1,))
    content = zip_pth(torch_pickle({"a": first, "b": second}), {"0": first.storage.data})
    tensors = read_state_dict(content)
    assert tensors["a"].tolist() == [0, 1, 2, 3] and tensors["b"].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(1, (4,), (1,)), (0, (2, 3), (2, 1)), (-1, (1,), (1,)), (0, (9,), (0,))]
)
def test_view_outside_its_storage(offset: int, size: Any, stride: Any) -> None:
    with pytest.raises(ValueError):
        read_state_dict(one_tensor(offset, size, stride))


def test_storage_of_wrong_length() -> None:
    with pytest.raises(ValueError, match="storage 0 has 12 bytes, expected 16"):
        read_state_dict(one_tensor(0, (3,), (1,), storage=bytes(12)))


class Shout:
    """What an attacker would pickle: loading it makes a file."""

    def __init__(self, path: Path) -> None:
        self.command = f"touch '{path}'"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@CONTAINERS
@pytest.mark.parametrize(("protocol", "reason"), [(2, "posix.system"), (4, "FRAME")])
def test_pickle_is_not_run(tmp_path: Path, container: Any, protocol: int, reason: str) -> None:
    proof = tmp_path / "it-ran"
    evil = pickle.dumps({"features.0.weight": Shout(proof)}, protocol=protocol)
    with pytest.raises(ValueError, match=reason):
        read_state_dict(container(evil, {}))
    assert not proof.exists()
    pickle.loads(evil)
    assert proof.exists()


@pytest.mark.parametrize(
    ("value", "reason"), [({"epoch": 3}, "its 'epoch' is not a tensor"), ([1], "not a state dict")]
)
def test_other_pickles(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"{reason}; save only model.state_dict\(\)"):
        read_state_dict(zip_pth(torch_pickle(value), {}))


def test_zip_bomb() -> None:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", torch_pickle({"w": Tensor(np.zeros(1 << 20, np.float32), "0")}))
        archive.writestr("archive/data/0", bytes(4 << 20))
    with pytest.raises(ValueError, match="states more bytes than the file has"):
        read_state_dict(stream.getvalue())


def test_big_endian_file() -> None:
    with pytest.raises(ValueError, match="byte order is not little-endian"):
        read_state_dict(zip_pth(torch_pickle({}), {}, order="big"))


def test_deeply_nested_key() -> None:
    """Hashing such a tuple would end the process."""
    with pytest.raises(ValueError, match="keys are not text"):
        read_state_dict(zip_pth(b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.", {}))


@CONTAINERS
def test_lack_of_memory_is_not_damage(container: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    state, storages = state_dict({"w": np.ones(2, np.float32)})
    content = container(torch_pickle(state), storages)
    monkeypatch.setattr(np, "ndarray", fail)
    with pytest.raises(MemoryError):
        read_state_dict(content)


SMALL, SMALL_STORAGES = state_dict({"w": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32)})


@settings(max_examples=300, deadline=None)
@given(data=st.data(), legacy=st.booleans())
def test_altered_pickle(data: st.DataObject, legacy: bool) -> None:
    """It is read or refused, and nothing else happens."""
    content = bytearray(torch_pickle(SMALL, *([None] if legacy else [])))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        tensors = read_state_dict((legacy_pth if legacy else zip_pth)(bytes(content), SMALL_STORAGES))
        assert all(array.nbytes <= 24 for array in tensors.values())
    except ValueError as error:
        assert str(error)
