"""Arrays of each format as their own libraries write them; a bad file is refused in one sentence."""

import io
import resource
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cnn.networks.weight_files import MAX_BYTES, read_tensors
from cnn.support.backend import mx
from cnn.support.errors import UserError

PARAMS_HEAD = struct.pack("<QQQ", 0x112, 0, 1)
VERSION_1 = struct.pack("<I", 0xF993FAC8)
FIVE_ONES = struct.pack("<Iqiii5f", 1, 5, 1, 0, 0, *[1] * 5)  # axes, length, device, type, values


def refusal(path: Path) -> str:
    """The sentence with which the file is refused; it names the file and is one line."""
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ") and "\n" not in sentence and sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int32", "int8", "int64"])
def test_params_of_every_type(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.params"
    array = np.arange(6).reshape(2, 3).astype(dtype)
    mx.nd.save(str(path), {"a": mx.nd.array(array, dtype=dtype)})
    found = read_tensors(path)["a"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("begin", [(0xF993FAC8,), (0xF993FAC9, 0), (0xF993FACA, 0)])
def test_params_of_every_release(tmp_path: Path, begin: tuple[int, ...]) -> None:
    """MXNet reads the same."""
    path = tmp_path / "weights.params"
    name = struct.pack("<QQ", 1, 1) + b"a"
    path.write_bytes(PARAMS_HEAD + struct.pack(f"<{len(begin)}I", *begin) + FIVE_ONES + name)
    with mx.util.np_shape(begin[0] == 0xF993FACA):
        assert mx.nd.load(str(path))["a"].asnumpy().tolist() == [1] * 5
    array = read_tensors(path)["a"]
    assert array.dtype == np.float32 and array.tolist() == [1] * 5


BAD_PARAMS = {
    "no names": (VERSION_1 + FIVE_ONES + struct.pack("<Q", 0), "it has 1 arrays and 0 names"),
    "a long name": (VERSION_1 + FIVE_ONES + struct.pack("<QQ", 1, 1 << 40), "it is truncated"),
    "many axes": (VERSION_1 + struct.pack("<II", 1 << 31, 5), "it is truncated"),
    "a long axis": (VERSION_1 + struct.pack("<Iqiii", 1, 1 << 50, 1, 0, 0), "it is truncated"),
    "bfloat16": (VERSION_1 + struct.pack("<Iqiii", 1, 5, 1, 0, 12), "has the unknown type 12"),
    "sparse": (struct.pack("<Ii", 0xF993FAC9, 1), "one of its arrays is sparse"),
    "no version": (struct.pack("<I", 1), "one of its arrays begins with 0x1"),
}


@pytest.mark.parametrize("case", BAD_PARAMS)
def test_bad_params(tmp_path: Path, case: str) -> None:
    rest, expected = BAD_PARAMS[case]
    path = tmp_path / "weights.params"
    path.write_bytes(PARAMS_HEAD + rest)
    assert expected in refusal(path)


ARRAYS = [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6, dtype=">f4").reshape(3, 2)), np.zeros((0, 2))]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_as_numpy_reads_it(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "a.npz"
    save(path, *ARRAYS)
    found = read_tensors(path)
    with np.load(path) as expected:
        assert list(found) == expected.files
        for name in expected.files:
            assert found[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(found[name], expected[name])


def test_npz_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([print], dtype=object))
    assert "cannot be read as a NumPy archive" in refusal(path)


def test_npz_bomb(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, bomb=np.zeros(17 << 20))
    assert "its arrays take more than 128 MB" in refusal(path)


def test_npz_with_a_false_header(tmp_path: Path) -> None:
    """The header states 8 TB: no memory is reserved for them."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(8))
    assert "cannot reshape" in refusal(path)


def test_onnx_with_values_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    graph = onnx.helper.make_graph([], "a", [], [], [onnx.numpy_helper.from_array(np.ones(3, np.float32), "a")])
    model = onnx.helper.make_model(graph)
    onnx.save(model, str(path))
    assert read_tensors(path)["a"].tolist() == [1, 1, 1]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, -1]), "shape"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(6, np.float32), "bound"))
    onnx.save(model, str(path))
    assert list(read_tensors(path)) == ["a"]
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location="../secret")
    path.write_bytes(model.SerializeToString())
    assert "the values of 'a' are in another file" in refusal(path)


def test_missing_file_folder_and_suffix(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere.npz")
    (tmp_path / "folder.pth").mkdir()
    assert "Is a directory" in refusal(tmp_path / "folder.pth")
    (tmp_path / "file").touch()
    assert "Not a directory" in refusal(tmp_path / "file" / "a.npz")
    assert "read from .params, .onnx, .pth, .npz, .h5 files" in refusal(tmp_path / "weights.tflite")


def test_suffix_in_capitals(tmp_path: Path) -> None:
    path = tmp_path / "A.NPZ"
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3))
    assert read_tensors(path)["a"].tolist() == [1, 1, 1]


def test_size_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.params"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "it has 128 MB, expected at most 128" in refusal(path)
    with path.open("wb") as file:
        file.truncate(MAX_BYTES)
    assert "does not begin as a parameter file does" in refusal(path)


def test_lack_of_memory_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    path = tmp_path / "a.npz"
    np.savez(path, a=np.ones(3))
    monkeypatch.setattr(np, "frombuffer", fail)
    with pytest.raises(MemoryError):
        read_tensors(path)


def test_too_many_open_files_is_not_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.ones(3))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            read_tensors(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert read_tensors(path)["a"].tolist() == [1, 1, 1]
