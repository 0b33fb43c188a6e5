"""Networks run on batches of any size and on several devices, against numpy."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn.data.images import Preprocessing
from cnn.networks.architectures import NetworkConfig
from cnn.networks.exporting import export_onnx
from cnn.networks.running import (
    Runner,
    compile_network,
    initialise,
    mirrored_mean,
    parameters,
    run_batches,
    set_parameters,
    with_parameters,
)
from cnn.networks.sessions import Session
from cnn.support.backend import CPU, Devices, mx


class Recorder:
    """Stands in for a compiled block: gives 3 x + 1, and notes the size and device of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, str]] = []

    def __call__(self, batch: Any) -> Any:
        self.calls.append((len(batch), str(batch.context)))
        return 3 * batch + 1


@st.composite
def sizes_and_devices(draw: st.DrawFn) -> tuple[int, list[int], int]:
    """The size of the first batch, sizes of batches, number of devices."""
    size = draw(st.integers(1, 7))
    return size, [size, *draw(st.lists(st.integers(1, size), max_size=5))], draw(st.integers(1, 3))


@settings(deadline=None, max_examples=50)
@given(sizes_and_devices())
def test_batches_are_padded_and_cut(case: tuple[int, list[int], int]) -> None:
    size, counts, devices = case
    rng, block = np.random.default_rng(0), Recorder()
    batches = [rng.random((count, 2, 3), np.float32) for count in counts]
    found = [each for (each,) in run_batches(block, iter(batches), Devices(numbers=tuple(range(devices))))]
    assert [len(each) for each in found] == counts
    for outputs, inputs in zip(found, batches, strict=True):
        np.testing.assert_allclose(outputs, 3 * inputs + 1, rtol=1e-6)
    per_batch = [block.calls[first : first + devices] for first in range(0, len(block.calls), devices)]
    assert len(per_batch) == len(batches)
    for calls in per_batch:
        assert [device for _, device in calls] == [f"cpu({number})" for number in range(devices)]
        assert sum(count for count, _ in calls) == max(size, devices)  # another size would be planned anew


def test_next_batch_is_taken_while_the_network_runs() -> None:
    taken = []

    def batches() -> Any:
        for number in range(3):
            taken.append(number)
            yield np.zeros((1, 1), np.float32)

    found = run_batches(Recorder(), batches())
    next(found)
    assert taken == [0, 1]


def test_padding_does_not_change_what_a_network_gives(lenet: Callable[[int], Any]) -> None:
    net = compile_network(initialise(lenet(2), 16, seed=0, devices=Devices(numbers=(0, 1))))
    images = np.random.default_rng(0).random((7, 3, 16, 16), np.float32)
    groups = [images[:4], images[4:]]
    found = np.concatenate([each for (each,) in run_batches(net, groups, Devices(numbers=(0, 1)))])
    np.testing.assert_allclose(found, net(mx.nd.array(images)).asnumpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_mirrored_mean_is_the_mean_of_both(compiled: bool) -> None:
    net = initialise(mx.gluon.nn.Conv2D(4, 3), 16, seed=0)
    images = np.random.default_rng(0).random((4, 3, 12, 16), np.float32)
    plain, mirrored = (net(mx.nd.array(each)).asnumpy() for each in (images, images[..., ::-1]))
    assert np.abs(plain - mirrored).mean() > 0.01
    block = compile_network(mirrored_mean(net)) if compiled else mirrored_mean(net)
    np.testing.assert_array_equal(block(mx.nd.array(images)).asnumpy(), (plain + mirrored) / 2)


# ---- runners


@pytest.mark.parametrize("devices", [CPU, Devices(numbers=(0, 1))], ids=str)
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_runner_answers_as_mxnet_does(
    mirrored: bool, views: int, devices: Devices, lenet: Callable[[int], Any]
) -> None:
    net = initialise(lenet(3), 16, seed=0, devices=devices)
    images = np.random.default_rng(0).random((300, views, 3, 16, 16), np.float32)
    block = mirrored_mean(net) if mirrored else net
    expected = [block(mx.nd.array(each)).asnumpy() for each in images]
    found = list(Runner(block, 16, devices)(iter(images)))
    assert [each.shape for each in found] == [(views, 3)] * 300
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert not list(Runner(block, 16, devices)([]))


def test_onnx_file_answers_as_its_network(lenet: Callable[[int], Any], tmp_path: Path) -> None:
    net = initialise(lenet(2), 16, seed=0)
    images = np.random.default_rng(0).random((5, 1, 3, 16, 16), np.float32)
    export_onnx(net, path := tmp_path / "lenet.onnx", 16)
    found = [each for (each,) in Session(path).all_outputs(images)]
    np.testing.assert_allclose(found, [net(mx.nd.array(each)).asnumpy() for each in images], rtol=1e-4, atol=1e-5)
    model = onnx.load(tmp_path / "lenet.onnx")
    assert [each.name for each in model.graph.input] == ["data"]  # parameters are constants


def test_same_seed_gives_same_parameters(lenet: Callable[[int], Any]) -> None:
    def draw(seed: int, devices: Devices = CPU) -> dict[str, NDArray[np.float32]]:
        return parameters(initialise(lenet(2), 16, seed, devices=devices))

    first, again, other = draw(0), draw(0, Devices(numbers=(1, 2))), draw(1)
    assert list(first) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values)
        assert (other[name] != values).any() or name.endswith("bias")


def test_threads_do_not_share_random_numbers(lenet: Callable[[int], Any]) -> None:
    class Slow(mx.init.Uniform):
        def _init_weight(self, name: str, array: Any) -> None:
            time.sleep(0.01)  # another thread may draw in the meantime
            super()._init_weight(name, array)

    def draw(seed: int) -> NDArray[np.float32]:
        return parameters(initialise(lenet(2), 16, seed, Slow()))["2.weight"]

    alone = [draw(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(list(pool.map(draw, range(4))), alone)


def test_parameters_are_set_on_all_devices(lenet: Callable[[int], Any]) -> None:
    net = initialise(lenet(2), 16, seed=0, devices=Devices(numbers=(0, 1)))
    before = parameters(net)
    wanted = {name: np.full_like(values, 5) for name, values in before.items() if name.startswith("0")}
    set_parameters(net, wanted, prefix="0")
    for name, parameter in net._collect_params_with_prefix().items():
        for copy in parameter.list_data():
            np.testing.assert_array_equal(copy.asnumpy(), wanted.get(name, before[name]))
    with pytest.raises(KeyError):
        set_parameters(net, wanted)


@pytest.mark.parametrize("mirrored", [False, True])
def test_network_is_built_from_its_parameters(mirrored: bool, lenet: Callable[[int], Any]) -> None:
    net = initialise(lenet(3), 16, seed=7)
    config = NetworkConfig(architecture="lenet", preprocessing=Preprocessing.whole(16), mirrored_mean=mirrored)
    images = mx.nd.array(np.random.default_rng(0).random((2, 3, 16, 16)))
    expected = (mirrored_mean(net) if mirrored else net)(images).asnumpy()
    found = with_parameters(config, 3, parameters(net))(images).asnumpy()
    np.testing.assert_array_equal(found, expected)
