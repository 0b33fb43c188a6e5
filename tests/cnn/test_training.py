"""The training loop, on one device and several, uninterrupted and killed."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learners import CLASSES, START, make_fresh_learner, make_learner

import cnn.training
from cnn.architectures import ARCHITECTURES
from cnn.backend import mx
from cnn.batches import Batch, Batches, FeatureBatches, PixelBatches, RecordBatches
from cnn.checkpoints import Checkpoint, load_checkpoint, load_state, save_checkpoint
from cnn.datasets import Dataset
from cnn.errors import UserError
from cnn.features import FEATURES, FeatureStore
from cnn.hyperparameters import FromScratch, Stage, Training
from cnn.learner import Classes, Learner, class_weights
from cnn.networks import parameters, set_parameters
from cnn.training import learning_rate, train

ON_FEATURES = Stage(views=2, epochs=3, batch_size=8, optimizer="adam", schedule="cosine", weight_decay=0.1)
FROM_SCRATCH = FromScratch(
    architecture="lenet", epochs=3, batch_size=4, momentum=0.9, schedule="linear", warm_up=0.2, weight_decay=1e-3,
    mirror=True, shift=2, initializer="whitening", learning_rate=0.01,
)  # fmt: skip


@pytest.fixture(scope="module")
def features(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features that stand in for the network's: noise whose level tells the class."""
    folder = tmp_path_factory.mktemp("features")
    chance = np.random.default_rng(0)
    for split, views in (("train", ON_FEATURES.views), ("validation", 1)):
        ids, labels = drawn_dataset.ids_and_labels(split)
        noise = chance.random((len(ids), views, *FEATURES)) * (1 + labels)[:, None, None, None, None]
        FeatureStore(folder / split, views).add(list(zip(ids, noise.astype(np.float16), strict=True)))
    return folder


def test_the_share_outside_the_network_is_the_time_in_which_batches_are_waited_for(
    drawn_dataset: Dataset, pixels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lenet: object
) -> None:
    class SlowBatches(PixelBatches):
        def training(self, epoch: int) -> Iterator[Batch]:
            for batch in super().training(epoch):
                clock[0] += 3
                yield batch

    def one_second_step(batch: Batch, learning_rate: float) -> tuple[float, Any]:
        clock[0] += 1
        return Learner.step(learner, batch, learning_rate)

    clock = [0.0]
    monkeypatch.setattr(cnn.training.time, "monotonic", lambda: clock[0])
    batches = SlowBatches(drawn_dataset, pixels, FROM_SCRATCH, seed=0)
    learner = make_fresh_learner(FROM_SCRATCH, batches)
    monkeypatch.setattr(learner, "step", one_second_step)
    _, *epochs = train(learner, batches, 0, tmp_path / "state.npz").timings
    assert [epoch["training_seconds"] for epoch in epochs] == [4 * batches.steps_per_epoch] * FROM_SCRATCH.epochs
    assert [epoch["outside_network"] for epoch in epochs] == [0.75] * FROM_SCRATCH.epochs


@pytest.mark.parametrize("devices", [2, 3])
def test_several_devices_learn_as_one(drawn_dataset: Dataset, features: Path, devices: int) -> None:
    def losses(contexts: list) -> list[float]:
        learner = make_learner(ON_FEATURES, contexts)
        batches = FeatureBatches(drawn_dataset, features, ON_FEATURES, seed=0)
        return [learner.step(batch, 1e-2)[0] for epoch in (1, 2) for batch in batches.training(epoch)]

    one, several = losses([mx.cpu()]), losses([mx.cpu(i) for i in range(devices)])
    assert one[0] != pytest.approx(one[-1])
    np.testing.assert_allclose(several, one, rtol=1e-5)


def test_all_layers_learn_on_several_devices(drawn_dataset: Dataset, records: Path) -> None:
    stage = Stage(trains="all", batch_size=4, epochs=1)
    before = START.parameters
    learner = make_learner(stage, [mx.cpu(0), mx.cpu(1)])
    learner.step(next(RecordBatches(drawn_dataset, records, stage, seed=0).training(1)), 0.1)
    copies = [p.list_data() for p in learner.model.net.collect_params().values()]
    for first, second in copies:
        np.testing.assert_array_equal(first.asnumpy(), second.asnumpy())
    assert any((parameters(learner.model.net)[name] != before[name]).any() for name in before if "features" in name)


def test_several_devices_learn_from_scratch_as_one(drawn_dataset: Dataset, pixels: Path, lenet: object) -> None:
    def losses(contexts: list) -> list[float]:
        batches = PixelBatches(drawn_dataset, pixels, FROM_SCRATCH, seed=0)
        learner = make_fresh_learner(FROM_SCRATCH, batches, contexts)
        return [learner.step(batch, 1e-2)[0] for epoch in (1, 2) for batch in batches.training(epoch)]

    one = losses([mx.cpu()])
    assert one[0] != pytest.approx(one[-1])
    for count in (2, 3):
        np.testing.assert_allclose(losses([mx.cpu(i) for i in range(count)]), one, rtol=1e-5)


@pytest.mark.parametrize(
    "stage",
    [
        ON_FEATURES,
        Stage(epochs=2, batch_size=8),
        Stage(trains="all", epochs=2, batch_size=8, optimizer="adam"),
        FROM_SCRATCH,
    ],
    ids=["features", "frozen", "all", "from scratch"],
)
def test_a_killed_training_ends_as_an_uninterrupted_one(
    stage: Stage | FromScratch,
    drawn_dataset: Dataset,
    features: Path,
    records: Path,
    pixels: Path,
    tmp_path: Path,
    lenet: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def dropping(classes: int) -> Any:
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Dropout(0.3), lenet(classes))
        return net

    monkeypatch.setitem(ARCHITECTURES, "lenet", dropping)

    def run(state: Path) -> Checkpoint:
        if isinstance(stage, FromScratch):
            small = PixelBatches(drawn_dataset, pixels, stage, 0)
            return train(make_fresh_learner(stage, small), small, 0, state)
        batches: Batches = (
            FeatureBatches(drawn_dataset, features, stage, 0)
            if stage.views
            else RecordBatches(drawn_dataset, records, stage, 0)
        )
        return train(make_learner(stage), batches, 0, state)

    class Killed(BaseException):
        pass

    def kill_after_first_epoch(path: Path, state: Any) -> None:
        real(path, state)
        raise Killed

    whole = run(tmp_path / "whole.npz")
    real = cnn.training.save_state
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(cnn.training, "save_state", kill_after_first_epoch)
        run(tmp_path / "killed.npz")
    state = load_state(tmp_path / "killed.npz")
    assert state is not None and state.epochs_done == 1
    with caplog.at_level(logging.INFO, "cnn"):
        resumed = run(tmp_path / "killed.npz")
    assert "going on after epoch 1" in caplog.text
    assert resumed.history == whole.history
    assert len(resumed.timings) == len(whole.timings) == len(whole.history)
    for name, values in whole.parameters.items():
        np.testing.assert_array_equal(resumed.parameters[name], values, err_msg=name)


def test_the_epoch_with_the_best_validation_f1_is_kept(drawn_dataset: Dataset, features: Path, tmp_path: Path) -> None:
    batches = FeatureBatches(drawn_dataset, features, ON_FEATURES, 0)
    best = train(make_learner(ON_FEATURES), batches, 0, tmp_path / "state.npz")
    learner = make_learner(ON_FEATURES)
    set_parameters(learner.model.net, best.parameters)
    outputs = [learner.predict(batch) for batch in batches.evaluation("validation")]
    labels = drawn_dataset.ids_and_labels("validation")[1]
    from sklearn.metrics import f1_score

    assert f1_score(labels, np.concatenate(outputs).argmax(1), pos_label=0) == pytest.approx(
        max(row["validation_f1"] for row in best.history)
    )


def test_only_the_output_block_changes_when_features_are_frozen(
    drawn_dataset: Dataset, records: Path, tmp_path: Path
) -> None:
    stage = Stage(epochs=1, batch_size=8)
    batches = RecordBatches(drawn_dataset, records, stage, 0)
    trained = train(make_learner(stage), batches, 0, tmp_path / "state.npz")
    for name in (name for name in START.parameters if name.startswith("features")):
        np.testing.assert_array_equal(trained.parameters[name], START.parameters[name])


def test_a_loss_that_is_not_finite_stops_the_training(drawn_dataset: Dataset, features: Path, tmp_path: Path) -> None:
    stage = ON_FEATURES.model_copy(update={"class_weights": "balanced"})
    endless = Classes(CLASSES.names, CLASSES.positive, counts=(0, 16))  # the weight of a class without pictures
    batches = FeatureBatches(drawn_dataset, features, stage, 0)
    with np.errstate(divide="ignore"), pytest.raises(UserError, match="learning rate"):
        train(make_learner(stage, classes=endless), batches, 0, tmp_path / "state.npz")


def test_a_training_from_scratch_that_diverges_names_its_architecture(
    drawn_dataset: Dataset, pixels: Path, tmp_path: Path, lenet: object
) -> None:
    settings = FROM_SCRATCH.model_copy(update={"learning_rate": 1e30, "warm_up": 0.0})
    batches = PixelBatches(drawn_dataset, pixels, settings, 0)
    with pytest.raises(UserError, match=r"training lenet: the loss became (nan|inf) in epoch \d.*1e\+30"):
        train(make_fresh_learner(settings, batches), batches, 0, tmp_path / "state.npz")


def test_a_dead_output_is_said(
    drawn_dataset: Dataset, records: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = START.parameters | {"output.0.weight": np.zeros((2, 512, 1, 1)), "output.0.bias": np.full(2, -1.0)}
    stage = Stage(trains="all", epochs=0, batch_size=8)
    batches = RecordBatches(drawn_dataset, records, stage, 0)
    train(make_learner(stage, start=dead), batches, 0, tmp_path / "state.npz")
    assert "dead" in caplog.text


SCHEDULES = st.builds(
    Training,
    schedule=st.sampled_from(["linear", "cosine"]),
    learning_rate=st.floats(1e-6, 10),
    warm_up=st.just(0.0) | st.floats(0.01, 0.99),
)


@given(SCHEDULES, st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_rises_to_its_peak_and_falls_to_0_without_a_jump(
    settings: Training, one: float, other: float
) -> None:
    peak, warm_up = settings.learning_rate, settings.warm_up
    first, second = learning_rate(settings, one), learning_rate(settings, other)
    assert 0 <= first <= peak
    steepest = peak * ((1 / warm_up if warm_up else 0) + max(np.pi / 2, 1 / (1 - warm_up)))
    assert abs(first - second) <= steepest * abs(one - other) + 1e-12
    assert learning_rate(settings, 1) == pytest.approx(0, abs=1e-12)
    assert learning_rate(settings, 0) == (0 if warm_up else peak)
    if settings.schedule == "linear":
        assert learning_rate(settings, warm_up) == pytest.approx(peak)
        middle = learning_rate(settings, (warm_up + 1) / 2)
        assert middle == pytest.approx(peak / 2)
    if warm_up <= min(one, other):
        assert (first >= second) == (one <= other) or first == pytest.approx(second)


def test_balanced_weights_give_each_class_the_same_sum() -> None:
    counts = (10, 30, 2)
    weights = class_weights(Training(class_weights="balanced"), Classes(("a", "b", "c"), None, counts))
    np.testing.assert_allclose(weights * counts, np.sum(counts) / 3, rtol=1e-6)


def test_a_checkpoint_is_read_back_as_written(tmp_path: Path) -> None:
    checkpoint = Checkpoint(START.parameters, ({"epoch": 0, "validation_f1": 0.5, "stage": 1},))
    for name in ("a.npz", "b.npz"):
        save_checkpoint(tmp_path / name, checkpoint)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = load_checkpoint(tmp_path / "a.npz")
    assert again.history == checkpoint.history
    assert again.parameters.keys() == START.parameters.keys()
    assert load_state(tmp_path / "missing.npz") is None
    (tmp_path / "a.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:-1000])
    assert load_state(tmp_path / "a.npz") is None


def test_a_batch_may_be_smaller_than_the_number_of_devices(drawn_dataset: Dataset, features: Path) -> None:
    learner = make_learner(ON_FEATURES, [mx.cpu(0), mx.cpu(1)])
    batch, labels = next(FeatureBatches(drawn_dataset, features, ON_FEATURES, seed=0).training(1))
    assert learner.predict((batch[:1], labels[:1])).shape == (1, 2)


@pytest.mark.gpu
def test_a_gpu_learns_as_the_cpu_does(drawn_dataset: Dataset, features: Path) -> None:
    found = []
    for device in (mx.cpu(), mx.gpu()):
        learner = make_learner(ON_FEATURES, [device])
        batches = FeatureBatches(drawn_dataset, features, ON_FEATURES, seed=0).training(1)
        found.append([learner.step(batch, 1e-2)[0] for batch in batches])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3)
