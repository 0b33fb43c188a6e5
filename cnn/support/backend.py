"""MXNet, imported at its first use and set up for this machine; the only module that knows how its releases differ.

Everybody else writes ``from cnn.support.backend import mx``, which costs nothing: MXNet itself takes seconds to import,
and a run in which every step is cached never needs it.
"""

import atexit
import contextlib
import ctypes
import functools
import importlib
import importlib.util
import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from cnn.support.errors import UserError
from cnn.support.parallel import physical_cores
from cnn.support.text import printable

#: An MXNet context; MXNet carries no type information, and 2.0 renamed the class.
Context = Any
#: A Gluon block.
Network = Any

#: Shared libraries of the ``gpu`` dependency group in load order: (folder under nvidia/, file).
_CUDA_LIBRARIES = (
    ("cuda_runtime", "libcudart.so.11.0"),
    ("nvtx", "libnvToolsExt.so.1"),
    ("cuda_nvrtc", "libnvrtc.so.11.2"),
    ("cublas", "libcublasLt.so.11"),
    ("cublas", "libcublas.so.11"),
    ("curand", "libcurand.so.10"),
    ("cufft", "libcufft.so.10"),
    ("cusolver", "libcusolver.so.11"),
    ("cudnn", "libcudnn.so.8"),
    ("nccl", "libnccl.so.2"),
)
#: The distribution that brings MXNet for GPUs, and the newest compute capability it holds machine code for:
#: sm_86 without PTX runs on Ada (8.9) but not on Hopper (9.0).
_GPU_BUILD, _NEWEST_CAPABILITY = "mxnet-cu112", (8, 9)


def _load_cuda_libraries() -> None:
    """Load the CUDA 11 wheels' libraries, which MXNet's own library path does not reach."""
    package = importlib.util.find_spec("nvidia")
    folders = list(package.submodule_search_locations or []) if package else []
    for folder, name in _CUDA_LIBRARIES:
        for path in (Path(base) / folder / "lib" / name for base in folders):
            if path.exists():
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


@functools.cache
def _load_mxnet() -> Any:
    np.bool = np.bool_  # type: ignore[attr-defined]  # MXNet 1.9 still uses the name that numpy 1.24 dropped
    require_number_of_threads()
    _load_cuda_libraries()
    try:
        return importlib.import_module("mxnet")
    finally:
        if base := sys.modules.get("mxnet.base"):
            atexit.unregister(base._notify_shutdown)
            atexit.register(_shut_down, base)


def _shut_down(base: Any) -> None:
    """What MXNet does at the end of Python, without the traceback of an error that was raised before."""
    with contextlib.suppress(base.MXNetError):
        base._notify_shutdown()


def keep_from_waiting() -> None:
    """Let Python end while MXNet waits for what never comes."""
    atexit.unregister(_shut_down)


def require_number_of_threads() -> None:
    """Refuse a number of threads at which MXNet would end the process, or run at one thread's speed.

    Raises:
        UserError: ``OMP_NUM_THREADS`` is no number.
    """
    threads = os.environ["OMP_NUM_THREADS"]
    if not re.fullmatch(r"\s*0*[1-9]\d{0,4}\s*", threads, re.ASCII):
        raise UserError(
            f"OMP_NUM_THREADS {printable(threads)!r}: expected the number of threads that MXNet may use, such as "
            f"{physical_cores()}: set it to that, or unset it."
        )


class _LazyMXNet:
    def __getattr__(self, name: str) -> Any:
        return getattr(_load_mxnet(), name)


if not os.environ.get("OMP_NUM_THREADS"):
    os.environ["OMP_NUM_THREADS"] = str(physical_cores())  # unset, MXNet runs at one thread's speed
mx: Any = _LazyMXNet()


def structural_parameters(block: Network) -> dict[str, Any]:
    """A Gluon block's parameters by their place in it: ``features.0.weight`` …"""
    return block._collect_params_with_prefix()


def gpu_capabilities() -> list[tuple[int, int]]:
    """Compute capability (major, minor) of each GPU, as the driver reports it; empty without a driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    capabilities = []
    for index in range(count.value):
        major, minor = ctypes.c_int(), ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, index)  # ..._COMPUTE_CAPABILITY_MAJOR
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, index)
        capabilities.append((major.value, minor.value))
    return capabilities


def _has_gpu_build() -> bool:
    try:
        return bool(version(_GPU_BUILD))
    except PackageNotFoundError:
        return False


def _obstacle(index: int) -> str | None:
    """Why GPU ``index`` cannot be used, as the end of a sentence, or None if it can."""
    capabilities = gpu_capabilities()
    if index >= len(capabilities):
        return f"the driver shows {len(capabilities)}" if capabilities else "there is no NVIDIA GPU or no driver for it"
    if not _has_gpu_build():
        return "this environment holds the CPU build of MXNet; install requirements/gpu.txt (docs/gpu.md)"
    if capabilities[index] > _NEWEST_CAPABILITY:
        found, newest = (".".join(map(str, pair)) for pair in (capabilities[index], _NEWEST_CAPABILITY))
        return f"its compute capability is {found} and MXNet 1.9 ends at {newest} (docs/gpu.md)"
    return None


class Devices(BaseModel):
    """The devices that a step runs on, all of one kind; its text, which cache keys hold, tells kind and number only.

    >>> str(Devices(kind="gpu", numbers=(1, 3)))
    '2 gpu'
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["cpu", "gpu"] = "cpu"
    numbers: tuple[int, ...] = (0,)

    def __str__(self) -> str:
        return f"{len(self.numbers)} {self.kind}"

    @property
    def contexts(self) -> list[Context]:
        """The MXNet contexts."""
        return [mx.Context(self.kind, number) for number in self.numbers]

    @property
    def names(self) -> str:
        """Each device by name: ``gpu(0), gpu(1)``."""
        return ", ".join(f"{self.kind}({number})" for number in self.numbers)


CPU = Devices()


def choose_devices(name: str, every: bool = False) -> Devices:
    """Devices by name: ``cpu``, ``gpu``, ``gpu:0,1``, or ``auto``: the first usable GPU (or ``every`` one), or the CPU.

    Raises:
        UserError: a GPU was asked for that is not there or that this MXNet build cannot use; or ``OMP_NUM_THREADS`` is
            no number, with which no device can be used.

    >>> choose_devices("cpu")
    Devices(kind='cpu', numbers=(0,))
    """
    require_number_of_threads()
    if name == "auto":
        usable = tuple(number for number in range(len(gpu_capabilities())) if _obstacle(number) is None)
        return Devices(kind="gpu", numbers=usable if every else usable[:1]) if usable else CPU
    if name == "cpu":
        return CPU
    numbers = tuple(dict.fromkeys(int(number) for number in name.partition(":")[2].split(","))) if ":" in name else (0,)
    for number in numbers:
        if obstacle := _obstacle(number):
            raise UserError(f"device {name}: GPU {number} cannot be used: {obstacle}; choose cpu or auto.")
    return Devices(kind="gpu", numbers=numbers)
