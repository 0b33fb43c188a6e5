"""Trainings from scratch: the whole composition, what a network drops, and what it predicts with."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learners import assert_same, make_fresh_learner
from PIL import Image

from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import Preprocessing, to_tensor
from cnn.evaluation.trained import trained_classifier
from cnn.networks.architectures import ARCHITECTURES, Architecture
from cnn.networks.running import parameters
from cnn.support.backend import Devices, mx
from cnn.support.errors import UserError
from cnn.training.batches import Batch
from cnn.training.checkpoints import Checkpoint
from cnn.training.hyperparameters import FromScratch
from cnn.training.loop import train
from cnn.training.pixels import PixelBatches
from cnn.training.scratch import scratch_model, train_from_scratch


@pytest.fixture
def stage(lenet: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch) -> FromScratch:
    """A training that uses every setting, of a small network with dropout."""

    def dropping(classes: int) -> Any:
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Dropout(0.3), lenet(classes))
        return net

    monkeypatch.setitem(ARCHITECTURES, "lenet", Architecture(dropping, smallest_side=6))
    return FromScratch(
        architecture="lenet",
        preprocessing=Preprocessing.whole(32),
        initializer="whitening",
        noise=0.0,
        mirror=True,
        shift=2,
        epochs=3,
        batch_size=4,
        learning_rate=0.01,
        momentum=0.9,
        schedule="linear",
        warm_up=0.2,
        weight_decay=1e-3,
    )


def test_pixels_and_state_are_made_if_need_be(
    stage: FromScratch, drawn_dataset: Dataset, pixels: Path, tmp_path: Path
) -> None:
    state_file = tmp_path / "state.npz"
    expected = train_from_scratch(drawn_dataset, stage, seed=1, pixels=pixels, state_file=state_file)
    assert_same(train_from_scratch(drawn_dataset, stage, seed=1), expected)
    assert_same(train_from_scratch(drawn_dataset, stage, seed=1, state_file=state_file), expected)  # from its state
    batches = PixelBatches(drawn_dataset, pixels, stage, seed=1)
    learner = make_fresh_learner(stage, batches, seed=1)
    values, history, _, kept = train(learner, batches, seed=1, state_file=tmp_path / "other.npz")
    assert (history, kept) == (list(expected.history), expected.kept)
    for name in values:
        np.testing.assert_array_equal(expected.parameters[name], values[name])


def test_seed_decides_the_first_parameters(stage: FromScratch) -> None:
    images = np.random.default_rng(0).random((4, 3, 32, 32), np.float32)
    one, again, other = (parameters(scratch_model(stage, 2, images, seed).net) for seed in (0, 0, 1))
    for name in one:
        np.testing.assert_array_equal(one[name], again[name])
    assert any((one[name] != other[name]).any() for name in one)


def test_checkpoint_predicts_as_its_history_says(stage: FromScratch, drawn_dataset: Dataset) -> None:
    stage = stage.replace(mirrored_mean=True)
    trained = train_from_scratch(drawn_dataset, stage)
    assert trained.network == stage.network and trained.network.mirrored_mean
    assert trained.classes == drawn_dataset.classes
    assert [row["epoch"] for row in trained.history] == list(range(4))
    classifier = trained_classifier(trained)
    rows = list(drawn_dataset.rows("validation"))
    found = [classifier.classify(decode(row.data)) for row in rows]
    right = [
        max(each, key=each.__getitem__) == trained.classes[row.label] for each, row in zip(found, rows, strict=True)
    ]
    values = [row["validation_accuracy"] for row in trained.history]
    assert np.mean(right) == pytest.approx(max(values)) == pytest.approx(values[trained.kept])


def test_killed_training_ends_as_an_uninterrupted_one(
    stage: FromScratch,
    drawn_dataset: Dataset,
    pixels: Path,
    tmp_path: Path,
) -> None:
    class Killed(BaseException):
        pass

    def killed_in_third_epoch(self: PixelBatches, epoch: int) -> Iterator[Batch]:
        if epoch == 3:
            raise Killed
        return training(self, epoch)

    whole = train_from_scratch(drawn_dataset, stage, pixels=pixels)
    state_file, training = tmp_path / "state.npz", PixelBatches.training
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(PixelBatches, "training", killed_in_third_epoch)
        train_from_scratch(drawn_dataset, stage, pixels=pixels, state_file=state_file)
    assert_same(train_from_scratch(drawn_dataset, stage, pixels=pixels, state_file=state_file), whole)


@pytest.mark.parametrize("initializer", ["xavier", "whitening"])
def test_several_devices_learn_as_one(
    initializer: Any, stage: FromScratch, drawn_dataset: Dataset, pixels: Path
) -> None:
    stage = stage.replace(initializer=initializer, dropout=0.0)  # devices drop other values

    def losses(devices: int) -> list[float]:
        batches = PixelBatches(drawn_dataset, pixels, stage, seed=0)
        learner = make_fresh_learner(stage, batches, Devices(numbers=tuple(range(devices))))
        return [learner.step(batch, 1e-2)[0] for epoch in (1, 2) for batch in batches.training(epoch)]

    one = losses(1)
    assert one[0] != pytest.approx(one[-1])
    for count in (2, 3):
        np.testing.assert_allclose(losses(count), one, rtol=1e-5)


def test_diverging_training_names_its_architecture(stage: FromScratch, drawn_dataset: Dataset, pixels: Path) -> None:
    stage = stage.replace(learning_rate=1e30, warm_up=0.0)
    with pytest.raises(UserError, match=r"training lenet: the loss became (nan|inf) in epoch \d.*1e\+30"):
        train_from_scratch(drawn_dataset, stage, pixels=pixels)


def test_unexportable_network_is_refused_before_training(
    stage: FromScratch, drawn_dataset: Dataset, pixels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "lenet", Architecture(lambda classes: mx.gluon.nn.Sequential()))
    with pytest.raises(UserError, match="lenet: expected a HybridBlock"):
        train_from_scratch(drawn_dataset, stage, pixels=pixels)


@pytest.mark.parametrize(("dropout", "share"), [(None, 0.3), (0.0, 0.0), (0.6, 0.6)])
def test_network_drops_what_its_stage_says(
    dropout: float | None, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropping(classes: int) -> object:
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.HybridSequential())
        net[0].add(mx.gluon.nn.Dropout(0.3))
        return net

    monkeypatch.setitem(ARCHITECTURES, "dropping", Architecture(dropping))
    stage = FromScratch(architecture="dropping", dropout=dropout)
    model = scratch_model(stage, 2, np.zeros((1, 3, 10, 10), np.float32), seed=0)
    ones = mx.nd.ones((100, 3, 10, 10))
    with mx.autograd.record():
        learning = model.forward(ones).asnumpy()
    assert np.mean(learning == 0) == pytest.approx(share, abs=0.02)  # six standard errors
    np.testing.assert_array_equal(model.forward(ones).asnumpy(), 1)


@pytest.mark.parametrize("mirrored_mean", [False, True])
@pytest.mark.usefixtures("lenet")
def test_network_may_predict_with_the_mirrored_mean(mirrored_mean: bool) -> None:
    stage = FromScratch(architecture="lenet", mirrored_mean=mirrored_mean)
    images = np.random.default_rng(0).random((4, 3, 32, 32), np.float32)
    model = scratch_model(stage, 2, images, seed=0)
    plain, mirrored = (model.net(mx.nd.array(each)).asnumpy() for each in (images, images[..., ::-1]))
    assert np.abs(plain - mirrored).max() > 0.01
    with mx.autograd.record():
        np.testing.assert_array_equal(model.forward(mx.nd.array(images)).asnumpy(), plain)  # learns from the image
    expected = (plain + mirrored) / 2 if mirrored_mean else plain
    np.testing.assert_allclose(model.predict(mx.nd.array(images)).asnumpy(), expected, atol=1e-6)
    classifier = trained_classifier(Checkpoint(stage.network, ("a", "b"), parameters(model.net)))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    (found,) = classifier.predict([Image.fromarray(pixels)])
    (logits,) = model.predict(mx.nd.array(to_tensor([Image.fromarray(pixels)], stage.preprocessing))).asnumpy()
    assert np.log(found[0] / found[1]) == pytest.approx(logits[0] - logits[1], abs=1e-4)
