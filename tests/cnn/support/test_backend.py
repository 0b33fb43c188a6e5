"""Which devices are chosen, and which are refused before any work."""

import pytest

import cnn.support.backend as backend
from cnn.support.backend import CPU, Devices, choose_devices, mx, require_number_of_threads
from cnn.support.errors import UserError
from cnn.support.parallel import number_of_threads


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Pretend GPUs of these compute capabilities, and an installed CUDA build of MXNet."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(backend, "gpu_capabilities", lambda: found)
    monkeypatch.setattr(backend, "version", lambda distribution: "1.9.1")
    return found


def gpu(*numbers: int) -> Devices:
    return Devices(kind="gpu", numbers=numbers)


@pytest.mark.usefixtures("gpus")
def test_without_gpu_auto_is_cpu() -> None:
    assert choose_devices("cpu") == choose_devices("auto") == choose_devices("auto", every=True) == CPU
    with pytest.raises(UserError, match=r"device gpu: GPU 0 .* no NVIDIA GPU"):
        choose_devices("gpu")


def test_usable_gpus_are_chosen(gpus: list[tuple[int, int]]) -> None:
    gpus += [(7, 5), (8, 9)]
    assert choose_devices("auto") == choose_devices("gpu") == gpu(0)
    assert choose_devices("auto", every=True) == choose_devices("gpu:0,1") == gpu(0, 1)
    assert choose_devices("gpu:1,0,1") == gpu(1, 0)
    assert choose_devices("cpu") == CPU
    with pytest.raises(UserError, match=r"device gpu:1,2: GPU 2 cannot be used: the driver shows 2;"):
        choose_devices("gpu:1,2")


def test_auto_skips_unusable_gpus(gpus: list[tuple[int, int]]) -> None:
    gpus += [(9, 0), (8, 6), (7, 0)]
    assert choose_devices("auto") == gpu(1)
    assert choose_devices("auto", every=True) == gpu(1, 2)


def test_too_new_gpu_is_refused(gpus: list[tuple[int, int]]) -> None:
    gpus += [(9, 0)]
    assert choose_devices("auto") == choose_devices("auto", every=True) == CPU
    with pytest.raises(UserError, match=r"capability is 9\.0 .* ends at 8\.9"):
        choose_devices("gpu")


def test_gpu_needs_the_gpu_build(gpus: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(distribution: str) -> str:
        raise backend.PackageNotFoundError(distribution)

    gpus += [(8, 0)]
    monkeypatch.setattr(backend, "version", not_installed)
    assert choose_devices("auto") == CPU
    with pytest.raises(UserError, match=r"requirements/gpu\.txt"):
        choose_devices("gpu")


def test_devices_are_mxnets_contexts() -> None:
    two = Devices(numbers=(0, 3))
    assert two.contexts == [mx.cpu(0), mx.cpu(3)]
    assert gpu(1).contexts == [mx.gpu(1)]
    assert two.names == "cpu(0), cpu(3)"


def test_text_says_kind_and_number() -> None:
    assert str(gpu(0)) == str(gpu(5)) != str(gpu(0, 5)) == str(gpu(2, 3))
    assert str(CPU) != str(gpu(0))


@pytest.mark.parametrize(("value", "threads"), [("1", 1), (" 02 ", 2), ("64", 64)])
def test_number_of_threads_is_taken(value: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    require_number_of_threads()
    assert number_of_threads() == threads


@pytest.mark.parametrize("value", ["garbage", "0", "-1", "1.5", "1,2", "99999999999", "1" + 20 * "0", "٣"])
def test_number_of_threads_that_is_none_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with pytest.raises(UserError, match=r"^OMP_NUM_THREADS .*: expected the number of threads"):
        require_number_of_threads()
    assert 1 <= number_of_threads() < 1000  # as if it were not set
