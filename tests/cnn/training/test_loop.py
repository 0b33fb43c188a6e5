"""The training loop: which epoch is kept, how the rate runs, and what a killed training ends with."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learners import CLASSES, FewBatches, linear_model
from sklearn.metrics import f1_score

from cnn.networks.running import parameters
from cnn.support.backend import mx
from cnn.support.errors import UserError
from cnn.training.batches import Batch
from cnn.training.checkpoints import Arrays, load_state
from cnn.training.hyperparameters import ImageStage, Training
from cnn.training.learner import Learner
from cnn.training.loop import learning_rate, train
from cnn.training.workers import Workers

LABELS = np.array([0, 1, 1, 0, 1, 0, 0, 1])
START = {"weight": np.full((2, 3), 0.5, np.float32), "bias": np.zeros(2, np.float32)}

# ---- which epoch is kept


class Scripted(Learner):
    """Pretends to learn: after epoch e its bias is e, and so many of the images of each split are classified right."""

    def __init__(self, stage: Training, **right: list[int]) -> None:
        super().__init__(stage, CLASSES, linear_model(START))
        self._right, self.rates = right, list[float]()

    def step(self, batch: Batch, learning_rate: float) -> tuple[float, Any]:
        self.steps_done += 1
        self.rates.append(learning_rate)
        self.model.net.bias.set_data(mx.nd.full((2,), self.steps_done))
        return 1 / self.steps_done, self._outputs("learning")

    def predict(self, batch: Batch) -> Any:
        return self._outputs(batch[0])

    def _outputs(self, split: str) -> Any:
        right = np.arange(len(LABELS)) < self._right[split][self.steps_done]
        return np.eye(2)[np.where(right, LABELS, 1 - LABELS)]


SPLITS = {split: (split, LABELS) for split in ("train", "validation")}
#: For so many epochs, and before them: how many images are classified right.
RIGHT = st.integers(0, 5).flatmap(
    lambda epochs: st.lists(st.integers(0, len(LABELS)), min_size=epochs + 1, max_size=epochs + 1)
)


def f1(right: int) -> float:
    predicted = np.where(np.arange(len(LABELS)) < right, LABELS, 1 - LABELS)
    return f1_score(LABELS, predicted, pos_label=CLASSES.positive, zero_division=0)


@settings(deadline=None, max_examples=30)
@given(RIGHT, st.sampled_from(["accuracy", "f1"]), st.booleans())
def test_last_of_the_best_epochs_is_kept(
    tmp_path_factory: pytest.TempPathFactory, right: list[int], chosen_by: str, remeasure: bool
) -> None:
    epochs = len(right) - 1
    stage = ImageStage(epochs=epochs, chosen_by=chosen_by, remeasure=remeasure)
    elsewhere = [len(LABELS) - count for count in right]  # the better on validation, the worse on training images
    learner = Scripted(stage, validation=right, train=elsewhere, learning=elsewhere)
    batches = FewBatches([("learning", LABELS)], **SPLITS)
    values, history, timings, kept = train(
        learner, batches, seed=0, state_file=tmp_path_factory.mktemp("loop") / "state.npz"
    )
    measured = [count / len(LABELS) if chosen_by == "accuracy" else f1(count) for count in right]
    assert kept == max(epoch for epoch, value in enumerate(measured) if value == max(measured))
    for found in (values, parameters(learner.model.net)):
        assert (found["bias"] == kept).all() and (found["weight"] == START["weight"]).all()
    assert len(history) == len(timings) == epochs + 1
    assert [row[f"validation_{chosen_by}"] for row in history] == pytest.approx(measured)


@pytest.mark.parametrize("remeasure", [False, True])
def test_history_holds_the_metrics_of_each_epoch(remeasure: bool, tmp_path: Path) -> None:
    stage = ImageStage(epochs=2, remeasure=remeasure)
    learner = Scripted(stage, validation=[2, 4, 6], train=[0, 8, 7], learning=[0, 3, 5])
    batches = FewBatches([("learning", LABELS)], **SPLITS)
    _, history, _, _ = train(learner, batches, seed=0, state_file=tmp_path / "state.npz")
    assert history[0]["epoch"] == 0 and not any(name.startswith("train") for name in history[0])
    assert [row["epoch"] for row in history] == [0, 1, 2]
    assert [row["validation_accuracy"] for row in history] == [2 / 8, 4 / 8, 6 / 8]
    assert [row["train_accuracy"] for row in history[1:]] == ([8 / 8, 7 / 8] if remeasure else [3 / 8, 5 / 8])
    assert [row["train_f1"] for row in history[1:]] == pytest.approx([f1(8), f1(7)] if remeasure else [f1(3), f1(5)])
    assert [row["train_loss"] for row in history[1:]] == [1, 1 / 2]
    assert [row["train_moving_loss"] for row in history[1:]] == pytest.approx([1, 0.99 + 0.01 / 2])


# ---- the learning rate

SCHEDULES = st.builds(
    Training,
    schedule=st.sampled_from(["linear", "cosine"]),
    learning_rate=st.floats(1e-6, 10),
    warm_up=st.just(0.0) | st.floats(0.01, 0.99),
)


@given(SCHEDULES, st.floats(0, 1), st.floats(0, 1))
def test_rate_rises_to_its_peak_and_falls_to_0(stage: Training, one: float, other: float) -> None:
    peak, warm_up = stage.learning_rate, stage.warm_up
    first, second = learning_rate(stage, one), learning_rate(stage, other)
    assert 0 <= first <= peak
    steepest = peak * ((1 / warm_up if warm_up else 0) + max(np.pi / 2, 1 / (1 - warm_up)))
    assert abs(first - second) <= steepest * abs(one - other) + 1e-12
    assert learning_rate(stage, 1) == pytest.approx(0, abs=1e-12)
    assert learning_rate(stage, 0) == (0 if warm_up else peak)
    if stage.schedule == "linear":
        assert learning_rate(stage, warm_up) == pytest.approx(peak)
        assert learning_rate(stage, (warm_up + 1) / 2) == pytest.approx(peak / 2)
    if warm_up <= min(one, other):
        assert (first >= second) == (one <= other) or first == pytest.approx(second)


@pytest.mark.parametrize(
    ("schedule", "warm_up", "expected"),
    [
        ("constant", 0.0, lambda progress: np.full(12, 0.3)),
        ("constant", 0.5, lambda progress: np.interp(progress, [0, 0.5, 1], [0, 0.3, 0.3])),
        ("linear", 0.0, lambda progress: 0.3 * (1 - progress)),
        ("linear", 0.25, lambda progress: np.interp(progress, [0, 0.25, 1], [0, 0.3, 0])),
        ("cosine", 0.0, lambda progress: 0.3 * np.cos(np.pi * progress / 2) ** 2),
        ("cosine", 0.25, lambda progress: 0.3 * np.cos(np.pi * progress / 2) ** 2 * np.clip(4 * progress, 0, 1)),
    ],
)
def test_each_step_has_its_rate(schedule: str, warm_up: float, expected: Any, tmp_path: Path) -> None:
    stage = ImageStage(epochs=3, learning_rate=0.3, schedule=schedule, warm_up=warm_up)
    learner = Scripted(stage, validation=[4] * 13, learning=[4] * 13)
    train(learner, FewBatches([("learning", LABELS)] * 4, **SPLITS), seed=0, state_file=tmp_path / "state.npz")
    np.testing.assert_allclose(learner.rates, expected(np.arange(12) / 12), rtol=1e-9, atol=1e-12)


# ---- a training that learns: killed, repeated, diverging, dead

STAGE = ImageStage(
    epochs=4, optimizer="adam", learning_rate=0.03, schedule="cosine", weight_decay=0.1, class_weights="equal"
)


class Killed(BaseException):
    """Stands in for a signal."""


class LinearBatches(FewBatches):
    """Inputs whose first value hints at the class; killed in the middle of an epoch, if wanted."""

    def __init__(self, killed_in: int | None = None) -> None:
        rng = np.random.default_rng(0)
        inputs = rng.normal(size=(3, len(LABELS), 3))
        inputs[..., 0] += LABELS
        first, second, last = ((mx.nd.array(part), labels) for part, labels in zip(inputs, [LABELS] * 3, strict=True))
        super().__init__([first, second], validation=last)
        self._killed_in = killed_in

    def training(self, epoch: int) -> Iterator[Batch]:
        for batch in super().training(epoch):
            yield batch
            if epoch == self._killed_in:
                raise Killed


def run(state_file: Path, *, killed_in: int | None = None, seed: int = 0, start: Arrays = START) -> Any:
    """Train a linear network with dropout on its inputs."""
    model = linear_model(start)
    dropping = dataclasses.replace(model, forward=lambda inputs: model.net(mx.nd.Dropout(inputs, p=0.3)))
    return train(Learner(STAGE, CLASSES, dropping), LinearBatches(killed_in), seed=seed, state_file=state_file)


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_killed_training_ends_as_an_uninterrupted_one(
    epoch: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values, history, timings, kept = run(tmp_path / "whole.npz")
    assert len({row["train_loss"] for row in history[1:]}) == STAGE.epochs  # it does learn
    with pytest.raises(Killed):
        run(tmp_path / "killed.npz", killed_in=epoch)
    state = load_state(tmp_path / "killed.npz")
    assert (state.epochs_done if state else 0) == epoch - 1
    with caplog.at_level(logging.INFO, "cnn"):
        resumed = run(tmp_path / "killed.npz")
    assert (f"resuming after epoch {epoch - 1} of 4" in caplog.text) == (epoch > 1)
    assert (resumed[1], len(resumed[2]), resumed[3]) == (history, len(timings), kept)
    for name in values:
        np.testing.assert_array_equal(resumed[0][name], values[name])


def test_finished_training_is_not_repeated(tmp_path: Path) -> None:
    values, history, timings, kept = run(tmp_path / "state.npz")
    again = run(tmp_path / "state.npz", killed_in=1, start={name: 7 * array for name, array in START.items()})
    assert again[1:] == (history, timings, kept)
    for name in values:
        np.testing.assert_array_equal(again[0][name], values[name])


def test_damaged_state_starts_anew(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "state.npz", killed_in=3)
    whole = (tmp_path / "state.npz").read_bytes()
    (tmp_path / "state.npz").write_bytes(whole[: len(whole) // 2])
    assert run(tmp_path / "state.npz")[1] == run(tmp_path / "other.npz")[1]


def test_seed_decides_what_is_dropped(tmp_path: Path) -> None:
    first, again, other = (run(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first[1] == again[1] != other[1]


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_infinite_loss_stops_the_training(value: float, tmp_path: Path) -> None:
    model = linear_model(START)
    batches = FewBatches([(mx.nd.full((8, 3), value), LABELS)], validation=(mx.nd.zeros((8, 3)), LABELS))
    with pytest.raises(UserError, match=r"training output block: the loss became nan in epoch 1, batch 0: .* of 0.03"):
        train(Learner(STAGE, CLASSES, model), batches, seed=0, state_file=tmp_path / "state.npz")
    assert not (tmp_path / "state.npz").exists()


def test_dead_output_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = linear_model({"weight": np.zeros((2, 3)), "bias": np.full(2, -1.0)})
    dead = dataclasses.replace(model, predict=lambda inputs: mx.nd.relu(model.net(inputs)))
    train(Learner(STAGE.replace(learning_rate=1e-9), CLASSES, dead), LinearBatches(), seed=0, state_file=tmp_path / "a")
    assert caplog.text.count("the output is dead: it is 0 for every image") == 1
    caplog.clear()
    run(tmp_path / "b")
    assert "dead" not in caplog.text


def test_waiting_for_batches_is_outside_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class SlowBatches(LinearBatches):
        def training(self, epoch: int) -> Iterator[Batch]:
            for batch in super().training(epoch):
                clock[0] += 3
                yield batch

        def evaluation(self, split: str) -> Iterator[Batch]:
            clock[0] += 5
            return super().evaluation(split)

    class SlowLearner(Learner):
        def step(self, batch: Batch, learning_rate: float) -> tuple[float, Any]:
            clock[0] += 1
            return super().step(batch, learning_rate)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    learner = SlowLearner(STAGE, CLASSES, linear_model(START))
    _, _, timings, _ = train(learner, SlowBatches(), seed=0, state_file=tmp_path / "state.npz")
    expected = {"seconds": 2 * (3 + 1) + 5, "training_seconds": 2 * (3 + 1), "outside_network": 0.75}
    assert timings == [{"seconds": 0.0}, *[expected] * STAGE.epochs]


@pytest.mark.parametrize("number", range(3), ids=["epoch", "batches", "settings"])
def test_workers_that_begin_differently_are_refused(number: int, tmp_path: Path) -> None:
    class Apart(Workers):
        def gather(self, rows: Any, images: int) -> Any:
            return np.concatenate([rows, rows + np.eye(3)[number]])

    learner = Scripted(ImageStage(epochs=1), learning=[0], train=[0, 0], validation=[0, 0])
    learner.workers = Apart()
    with pytest.raises(UserError, match="all workers to begin with the same settings and data after the same epoch"):
        train(learner, FewBatches([("learning", LABELS)], **SPLITS), seed=0, state_file=tmp_path / "state.npz")
