"""What the system lacks or refuses becomes a sentence; our own mistakes stay as they are."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from cnn.support.backend import mx
from cnn.support.errors import UserError, describe_system_error, plain_errors
from cnn.support.files import atomic_file, atomic_folder

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def error_of(function: object, *arguments: object) -> BaseException:
    with pytest.raises(Exception) as raised:
        function(*arguments)  # type: ignore[operator]
    return raised.value


def test_lack_of_memory_is_named_whoever_says_it() -> None:
    errors = [
        MemoryError(),
        error_of(np.empty, (1 << 60,), np.uint8),
        error_of(pa.allocate_buffer, 1 << 60),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError("libmxnet.so: failed to map segment from shared object"),
        ImportError("libonnx.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        mx.base.MXNetError("Traceback …\nMXNetError: Failed to allocate CPU Memory"),
        mx.base.MXNetError("std::bad_alloc"),
        mx.base.MXNetError("Check failed: e == cudaSuccess: CUDA: out of memory"),
    ]
    for error in errors:
        assert "not enough memory" in str(describe_system_error(error)), error


def test_other_errors_stay_as_they_are() -> None:
    for error in (ValueError("memory allocation"), RuntimeError("no"), OSError("no number"), KeyError("x")):
        assert describe_system_error(error) is None
        with pytest.raises(type(error)) as raised, plain_errors():
            raise error
        assert raised.value is error


def test_path_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.parquet"
    for read in (Path.read_bytes, pq.read_table):  # pyarrow's error has no filename
        with pytest.raises(UserError, match=r"missing\.parquet.*; check the path\."), plain_errors():
            read(missing)


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
def test_place_that_is_full_is_named(atomic: object, tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match=rf"^Nothing more can be written at {tmp_path}: the disk is full; free")
    with refused, plain_errors(), atomic(tmp_path / "name"):  # type: ignore[operator]
        raise OSError(*FULL.args)  # as a write() raises it: without a name
    assert not list(tmp_path.iterdir())


def test_too_large_a_file_is_said(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from cnn.support.commandline import run\n"
        "from cnn.support.files import atomic_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "def main():\n    with atomic_file(Path(sys.argv[1])) as path:\n        path.write_bytes(bytes(10**6))\n"
        "run(main)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1 and ended.stderr.startswith(f"error: Nothing more can be written at {tmp_path}: ")
    assert not list(tmp_path.iterdir())
