"""Which devices are given, and which are refused before any work."""

import pytest

import cnn.backend as backend
from cnn.backend import mx, pick_devices, resolve_auto
from cnn.errors import UserError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Pretend GPUs of these compute capabilities, and a CUDA build of MXNet."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(backend, "gpu_capabilities", lambda: found)
    monkeypatch.setattr(mx.runtime.Features, "is_enabled", lambda self, name: True)
    return found


def test_without_a_gpu_auto_is_the_cpu_and_gpu_is_an_error(gpus: list) -> None:
    assert pick_devices("auto") == [mx.cpu()]
    assert resolve_auto("auto") == resolve_auto("auto", every=True) == "cpu"
    with pytest.raises(UserError, match="no NVIDIA GPU"):
        pick_devices("gpu")


def test_usable_gpus_are_given(gpus: list) -> None:
    gpus += [(7, 5), (8, 9)]
    assert pick_devices("auto") == [mx.gpu(0)]
    assert resolve_auto("auto") == "gpu:0" and resolve_auto("auto", every=True) == "gpu:0,1"
    assert pick_devices("gpu") == [mx.gpu(0)]
    assert pick_devices("gpu:1,0,1") == [mx.gpu(1), mx.gpu(0)]
    assert pick_devices("gpu:0,1") == [mx.gpu(0), mx.gpu(1)]
    with pytest.raises(UserError, match="GPU 2 cannot be used"):
        pick_devices("gpu:1,2")


def test_a_gpu_that_is_too_new_for_this_mxnet_is_refused(gpus: list) -> None:
    gpus += [(9, 0)]
    assert pick_devices("auto") == [mx.cpu()]
    with pytest.raises(UserError, match=r"capability is 9\.0 .* ends at 8\.9"):
        pick_devices("gpu")


def test_a_gpu_beside_the_cpu_build_is_refused(gpus: list, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus += [(8, 0)]
    monkeypatch.setattr(mx.runtime.Features, "is_enabled", lambda self, name: False)
    with pytest.raises(UserError, match=r"requirements/gpu\.txt"):
        pick_devices("gpu")
