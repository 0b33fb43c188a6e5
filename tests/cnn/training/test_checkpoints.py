"""Checkpoints and states that are read back as written, and never unpickled."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnn.data.images import PHOTO, Preprocessing
from cnn.networks.architectures import NetworkConfig
from cnn.networks.initializers import random_parameters
from cnn.training.checkpoints import (
    Checkpoint,
    TrainingState,
    checkpoint_file,
    load_checkpoint,
    load_state,
    pretrained,
    save_checkpoint,
    save_parameters,
    save_state,
)

RNG = np.random.default_rng(0)
PARAMETERS = {"0.weight": RNG.random((2, 3), np.float32), "0.bias": RNG.random(2, np.float32)}
CHECKPOINT = Checkpoint(
    network=NetworkConfig(architecture="vgg", preprocessing=Preprocessing.whole(32), mirrored_mean=True),
    classes=("a", "b/c"),
    parameters=PARAMETERS,
    history=({"stage": 1, "epoch": 0, "validation_f1": 0.1}, {"stage": 1, "epoch": 1, "validation_f1": 1 / 3}),
    timings=({"seconds": 0.0}, {"seconds": 2.5, "training_seconds": 2.0}),
    kept=1,
)
STATE = TrainingState(
    current=PARAMETERS,
    optimizer={"0.0": RNG.random(6)},
    best={name: values + 1 for name, values in PARAMETERS.items()},
    history=[{"epoch": 0}],
    timings=[{"seconds": 1.5}],
    epochs_done=1,
    steps_done=7,
)


def test_checkpoint_is_read_back_as_written(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, CHECKPOINT)
    found = load_checkpoint(tmp_path)
    assert {**vars(found), "parameters": {}} == {**vars(CHECKPOINT), "parameters": {}}
    assert list(found.parameters) == list(PARAMETERS)
    for name, values in PARAMETERS.items():
        np.testing.assert_array_equal(found.parameters[name], values)
        assert found.parameters[name].dtype == values.dtype


def test_checkpoints_bytes_do_not_depend_on_time(tmp_path: Path) -> None:
    slower = Checkpoint(**{**vars(CHECKPOINT), "timings": ({"seconds": 9.0},) * 2})
    for name, checkpoint in (("a", CHECKPOINT), ("b", slower)):
        save_checkpoint(tmp_path / name, checkpoint)
    first, second = (checkpoint_file(tmp_path / name).read_bytes() for name in "ab")
    assert first == second
    assert load_checkpoint(tmp_path / "b").timings == slower.timings


def test_state_is_read_back_as_written(tmp_path: Path) -> None:
    save_state(tmp_path / "state.npz", STATE)
    found = load_state(tmp_path / "state.npz")
    assert found is not None
    for group in ("current", "optimizer", "best"):
        arrays, expected = getattr(found, group), getattr(STATE, group)
        assert arrays.keys() == expected.keys()
        assert all((arrays[name] == expected[name]).all() for name in expected)
    for name in ("history", "timings", "epochs_done", "steps_done"):
        assert getattr(found, name) == getattr(STATE, name)


def test_state_without_optimizer_averages(tmp_path: Path) -> None:
    save_state(tmp_path / "state.npz", TrainingState(PARAMETERS, {}, PARAMETERS))
    found = load_state(tmp_path / "state.npz")
    assert found is not None and found.optimizer == {}


@pytest.mark.parametrize("left", [0, 10, 0.5, -1])
def test_no_state_is_read_from_a_part(left: float, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.npz"
    assert load_state(path) is None
    save_state(path, STATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * left) if isinstance(left, float) else left])
    assert not caplog.text and load_state(path) is None
    assert f"{path}: the training state cannot be read" in caplog.text and "training starts anew" in caplog.text


def test_altered_state_is_read_whole_or_not_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.npz"
    save_state(path, STATE)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        for mask in (1, 0x80):
            altered = bytearray(whole)
            altered[place] ^= mask
            path.write_bytes(altered)
            caplog.clear()
            if (found := load_state(path)) is None:
                assert "cannot be read" in caplog.text
            else:  # names and times in the zip's own records
                assert found.history == STATE.history and found.steps_done == STATE.steps_done
                for group in ("current", "optimizer", "best"):
                    arrays, expected = getattr(found, group), getattr(STATE, group)
                    assert arrays.keys() == expected.keys()
                    assert all((arrays[name] == values).all() for name, values in expected.items())


def test_state_that_the_machine_cannot_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state.npz").mkdir()
    with pytest.raises(IsADirectoryError):
        load_state(tmp_path / "state.npz")


@pytest.mark.parametrize(
    "damage", [None, b"", b"[", b"{}", b"[]", b"\xff", b'[{"seconds": "x"}, {}]', b"null", b"[[], []]"]
)
def test_damaged_timings_do_not_lose_a_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes | None
) -> None:
    save_checkpoint(tmp_path, CHECKPOINT)
    file = tmp_path / "timings.json"
    file.unlink() if damage is None else file.write_bytes(damage)
    found = load_checkpoint(tmp_path)
    assert found.history == CHECKPOINT.history and all(np.isnan(each["seconds"]) for each in found.timings)
    assert len(found.timings) == 2 and f"{file}: missing or damaged" in caplog.text
    save_checkpoint(tmp_path, found)
    assert all(np.isnan(each["seconds"]) for each in load_checkpoint(tmp_path).timings)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "sprung",)

    facts = np.array(json.dumps({}))
    np.savez(tmp_path / "state.npz", facts=facts, **{"current/a": np.array([Trap()], object)})
    assert load_state(tmp_path / "state.npz") is None
    np.savez(checkpoint_file(tmp_path), facts=facts, **{"parameters/a": np.array([Trap()], object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_saved_parameters_are_pretrained_weights(tmp_path: Path) -> None:
    values = random_parameters(seed=1)
    save_parameters(tmp_path / "weights.npz", values)
    found = pretrained(str(tmp_path / "weights.npz"))
    assert found.network == NetworkConfig(architecture="squeezenet", preprocessing=PHOTO)
    assert (found.classes, found.history, found.timings, found.kept) == ((), (), (), 0)
    assert found.parameters.keys() == values.keys()
    assert all((found.parameters[name] == values[name]).all() for name in values)
