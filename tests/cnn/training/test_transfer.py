"""Whole stages of transfer learning: what is trained, from where, and how one stage follows another."""

from pathlib import Path

import numpy as np
import pytest
from learners import CLASSES, START, assert_same, make_learner
from sklearn.metrics import accuracy_score, f1_score

from cnn.data.datasets import Dataset
from cnn.networks.architectures import PRETRAINED
from cnn.networks.initializers import random_parameters
from cnn.networks.running import parameters, with_parameters
from cnn.support.backend import Devices, mx
from cnn.support.errors import UserError
from cnn.training.checkpoints import Arrays, Checkpoint
from cnn.training.features import feature_stores
from cnn.training.hyperparameters import Augmentation, FeatureStage, ImageStage, Stage
from cnn.training.loop import train
from cnn.training.records import RecordBatches
from cnn.training.transfer import make_batches, make_inputs, transfer, transfer_model

SEED = 7
OUTPUT = FeatureStage(
    views=2, epochs=3, batch_size=8, optimizer="adam", learning_rate=0.01, schedule="cosine", weight_decay=0.1
)
FROZEN = ImageStage(epochs=1, batch_size=8)
ALL = ImageStage(
    trains="all",
    epochs=1,
    batch_size=8,
    optimizer="adam",
    learning_rate=1e-4,
    augmentation=Augmentation(min_random_scale=1, max_random_scale=1, rand_crop=False),
)


@pytest.fixture(scope="module")
def features(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs of `OUTPUT`."""
    folder = tmp_path_factory.mktemp("features")
    make_inputs(drawn_dataset, START.parameters, OUTPUT, folder, seed=SEED)
    return folder


@pytest.fixture(scope="module")
def trained(drawn_dataset: Dataset, features: Path) -> Checkpoint:
    """What `OUTPUT` ends with."""
    return transfer(drawn_dataset, START, OUTPUT, seed=SEED, inputs=features)


def differing(first: Arrays, second: Arrays) -> set[str]:
    """First parts of the names of parameters that are not the same."""
    return {name.partition(".")[0] for name in first if (first[name] != second[name]).any()}


# ---- the composition


def test_inputs_and_state_are_made_if_need_be(drawn_dataset: Dataset, trained: Checkpoint, tmp_path: Path) -> None:
    state_file = tmp_path / "state.npz"
    assert_same(transfer(drawn_dataset, START, OUTPUT, seed=SEED, state_file=state_file), trained)
    assert_same(transfer(drawn_dataset, START, OUTPUT, seed=SEED, state_file=state_file), trained)  # from its state
    assert state_file.exists()


def test_stage_is_a_learner_trained_on_its_batches(
    drawn_dataset: Dataset, features: Path, trained: Checkpoint, tmp_path: Path
) -> None:
    batches = make_batches(drawn_dataset, features, OUTPUT, SEED)
    learner = make_learner(OUTPUT, seed=SEED)
    values, history, _, kept = train(learner, batches, seed=SEED, state_file=tmp_path / "state.npz")
    assert ([{"stage": 1, **row} for row in history], kept) == (list(trained.history), trained.kept)
    for name in values:
        np.testing.assert_array_equal(trained.parameters[name], values[name])


def test_checkpoint_predicts_as_its_history_says(drawn_dataset: Dataset, features: Path, trained: Checkpoint) -> None:
    assert trained.network == PRETRAINED and trained.classes == drawn_dataset.classes == CLASSES.names
    assert [(row["stage"], row["epoch"]) for row in trained.history] == [(1, epoch) for epoch in range(4)]
    ids, labels = drawn_dataset.ids_and_labels("validation")
    values = np.stack([feature_stores(features, 2)["validation"].read(image_id, 0) for image_id in ids])
    net = with_parameters(PRETRAINED, 2, trained.parameters)
    predicted = net.output(mx.nd.array(values)).asnumpy().argmax(1)
    kept = trained.history[trained.kept]
    assert kept["validation_f1"] == max(row["validation_f1"] for row in trained.history)
    assert kept["validation_f1"] == pytest.approx(f1_score(labels, predicted, pos_label=0))
    assert kept["validation_accuracy"] == pytest.approx(accuracy_score(labels, predicted))


def test_start_and_seed_decide_the_result(drawn_dataset: Dataset) -> None:
    stage = OUTPUT.replace(epochs=1, views=1)
    first = transfer(drawn_dataset, START, stage)
    for other in (
        transfer(drawn_dataset, Checkpoint(PRETRAINED, (), random_parameters(seed=4)), stage),
        transfer(drawn_dataset, START, stage, seed=1),
    ):
        assert other.history != first.history
        assert "output" in differing(other.parameters, first.parameters)


def test_positive_class_is_the_one_asked_for(drawn_dataset: Dataset, features: Path) -> None:
    stage = OUTPUT.replace(epochs=0)
    found = [
        transfer(drawn_dataset, START, stage, positive=positive, inputs=features).history[0]
        for positive in (None, *drawn_dataset.classes)
    ]
    assert found[0] == found[1] != found[2]
    recalls = [row["validation_recall"] for row in found[1:]]
    assert recalls[0] != recalls[1] and np.mean(recalls) == found[0]["validation_accuracy"]  # of four images each
    with pytest.raises(UserError, match="no such class; choose one of hotdog, not_hotdog"):
        transfer(drawn_dataset, START, stage, positive="cow", inputs=features)


# ---- one stage after another


def test_second_stage_continues_the_history(drawn_dataset: Dataset, features: Path, trained: Checkpoint) -> None:
    second = transfer(drawn_dataset, trained, OUTPUT.replace(epochs=2), inputs=features)
    third = transfer(drawn_dataset, second, OUTPUT.replace(epochs=0), inputs=features)
    assert third.history[:7] == second.history and second.history[:4] == trained.history
    numbers = [(row["stage"], row["epoch"]) for row in third.history]
    assert numbers == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (3, 0)]
    assert len(second.timings) == 7 and second.timings[:4] == trained.timings
    of_second = [row["validation_f1"] for row in second.history[4:]]
    assert second.kept == 4 + max(epoch for epoch, value in enumerate(of_second) if value == max(of_second))
    assert third.kept == 7


def test_all_layers_go_on_from_the_first_stage(drawn_dataset: Dataset, records: Path, trained: Checkpoint) -> None:
    unchanged = transfer(drawn_dataset, trained, ALL.replace(epochs=0), inputs=records)
    assert not differing(unchanged.parameters, trained.parameters)
    assert (unchanged.kept, len(unchanged.history)) == (4, 5)


# ---- what a stage takes over, and what it trains


@pytest.mark.parametrize(
    ("stage", "classes", "taken_over"),
    [
        (OUTPUT, 2, {"features"}),
        (FROZEN, 2, {"features"}),
        (ALL, 2, {"features", "output"}),
        (ALL, 3, {"features"}),
    ],
    ids=["features", "frozen", "all", "other classes"],
)
def test_output_block_is_taken_over_if_all_layers_are_trained(stage: Stage, classes: int, taken_over: set[str]) -> None:
    start = random_parameters(seed=1)
    start |= {name: values[:2] for name, values in start.items() if name.startswith("output")}
    found = parameters(transfer_model(stage, classes, start, seed=0).net)
    for part in ("features", "output"):
        names = [name for name in found if name.startswith(part)]
        same = [found[name].shape == start[name].shape and (found[name] == start[name]).all() for name in names]
        assert all(same) if part in taken_over else not same[0]


def test_new_output_block_depends_on_the_seed() -> None:
    one, again, other = (parameters(transfer_model(FROZEN, 2, START.parameters, seed).net) for seed in (0, 0, 1))
    assert not differing(one, again)
    assert differing(one, other) == {"output"}


@pytest.mark.parametrize("bias", [0.0, 1.5])
def test_new_output_block_has_its_bias(bias: float) -> None:
    net = transfer_model(OUTPUT.replace(output_bias=bias), 3, START.parameters, seed=0).net
    assert parameters(net)["output.0.bias"].tolist() == [bias] * 3


@pytest.mark.parametrize(
    ("stage", "trained"), [(FROZEN, {"output"}), (ALL, {"features", "output"})], ids=["output", "all"]
)
def test_only_what_a_stage_trains_changes(
    stage: ImageStage, trained: set[str], drawn_dataset: Dataset, records: Path
) -> None:
    learner = make_learner(stage, Devices(numbers=(0, 1)))
    before = parameters(learner.model.net)
    learner.step(next(RecordBatches(drawn_dataset, records, stage, seed=0).training(1)), 0.01)
    assert differing(parameters(learner.model.net), before) == trained
    for parameter in learner.model.net.collect_params().values():
        first, second = (copy.asnumpy() for copy in parameter.list_data())
        np.testing.assert_array_equal(first, second)


def test_frozen_features_give_the_networks_outputs(drawn_dataset: Dataset, records: Path) -> None:
    images, _ = next(RecordBatches(drawn_dataset, records, FROZEN, seed=0).evaluation("validation"))
    for stage in (FROZEN, ALL):
        model = transfer_model(stage, 2, START.parameters, seed=0)
        expected = model.net.output(model.net.features(images)).asnumpy()
        assert np.ptp(expected) > 0
        np.testing.assert_allclose(model.predict(images).asnumpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stage", [FROZEN.replace(epochs=2), ALL.replace(epochs=2)], ids=lambda stage: stage.trains)
def test_killed_stage_ends_as_an_uninterrupted_one(
    stage: Stage, drawn_dataset: Dataset, records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed_in_second_epoch(self: RecordBatches, epoch: int) -> object:
        if epoch == 2:
            raise Killed
        return training(self, epoch)

    state_file, training = tmp_path / "state.npz", RecordBatches.training
    whole = transfer(drawn_dataset, START, stage)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RecordBatches, "training", killed_in_second_epoch)
        transfer(drawn_dataset, START, stage, inputs=records, state_file=state_file)
    assert state_file.exists()
    assert_same(transfer(drawn_dataset, START, stage, inputs=records, state_file=state_file), whole)


@pytest.mark.gpu
def test_gpu_learns_as_the_cpu_does(drawn_dataset: Dataset, features: Path) -> None:
    cpu, gpu = (
        transfer(drawn_dataset, START, OUTPUT, inputs=features, devices=devices)
        for devices in (Devices(), Devices(kind="gpu"))
    )
    losses = [[row["train_loss"] for row in each.history[1:]] for each in (cpu, gpu)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
