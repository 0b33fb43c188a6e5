"""MXNet, imported once and rightly set up; the only module that knows what differs between its releases.

Everybody else writes ``from cnn.backend import mx``.
"""

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from cnn.errors import UserError

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

#: MXNet 1.9.1 holds machine code up to sm_86 and no PTX, so it runs on Ada (8.9) but not on Hopper (9.0).
NEWEST_CAPABILITY = (8, 9)


def physical_cores() -> int:
    """Number of physical cores this process may run on, at least 1."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.exists() else str(cpu))
    return max(1, len(cores))


def _load_cuda_libraries() -> None:
    """Load the CUDA 11 wheels' libraries, which MXNet's own library path does not reach."""
    package = importlib.util.find_spec("nvidia")
    folders = list(package.submodule_search_locations or []) if package else []
    for folder, name in _CUDA_LIBRARIES:
        for path in (Path(base) / folder / "lib" / name for base in folders):
            if path.exists():
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


os.environ.setdefault("OMP_NUM_THREADS", str(physical_cores()))  # unset, MXNet runs at one thread's speed
np.bool = np.bool_  # type: ignore[attr-defined]  # MXNet 1.9 still uses the name that numpy 1.24 dropped
_load_cuda_libraries()

import mxnet as mx  # noqa: E402

__all__ = [
    "Device",
    "Network",
    "gpu_capabilities",
    "mx",
    "physical_cores",
    "pick_devices",
    "resolve_auto",
    "structural_parameters",
]

#: An MXNet context; MXNet carries no type information, and 2.0 renamed the class.
Device = Any
#: A Gluon block.
Network = Any


def structural_parameters(block: Any) -> dict[str, Any]:
    """A Gluon block's parameters by their place in it: ``features.0.weight`` …"""
    if hasattr(block, "_collect_params_with_prefix"):
        return block._collect_params_with_prefix()
    return dict(block.collect_params())  # MXNet 2.0 has no other names


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


def _why_not_usable(index: int) -> str | None:
    """Why GPU ``index`` cannot be used, as the end of a sentence, or None if it can."""
    capabilities = gpu_capabilities()
    if index >= len(capabilities):
        return f"the driver shows {len(capabilities)}" if capabilities else "there is no NVIDIA GPU or no driver for it"
    if not mx.runtime.Features().is_enabled("CUDA"):
        return "this environment holds the CPU build of MXNet; install requirements/gpu.txt (README, GPU)"
    if mx.__version__.startswith("1.") and capabilities[index] > NEWEST_CAPABILITY:
        found, newest = (".".join(map(str, version)) for version in (capabilities[index], NEWEST_CAPABILITY))
        return f"its compute capability is {found} and MXNet {mx.__version__} ends at {newest} (README, GPU)"
    return None


def resolve_auto(name: str, every: bool = False) -> str:
    """What ``auto`` comes to on this machine: the first usable GPU, or ``every`` one, or else ``cpu``; others as is.

    >>> resolve_auto("gpu:1")
    'gpu:1'
    """
    if name != "auto":
        return name
    usable = [str(i) for i in range(len(gpu_capabilities())) if _why_not_usable(i) is None]
    return f"gpu:{','.join(usable if every else usable[:1])}" if usable else "cpu"


def pick_devices(name: str) -> list[Device]:
    """Turn ``auto``, ``cpu``, ``gpu`` or ``gpu:0,1`` into MXNet devices.

    Raises:
        UserError: a GPU was asked for that is not there or that this MXNet build cannot use.

    >>> pick_devices("cpu")
    [cpu(0)]
    """
    name = resolve_auto(name)
    if name == "cpu":
        return [mx.cpu()]
    indices = list(dict.fromkeys(int(i) for i in name.partition(":")[2].split(","))) if ":" in name else [0]
    for index in indices:
        if reason := _why_not_usable(index):
            raise UserError(f"--device {name}: GPU {index} cannot be used: {reason}; choose --device cpu or auto.")
    return [mx.gpu(index) for index in indices]
