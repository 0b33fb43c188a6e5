"""The training loop against the notebook's own, on one device and several, uninterrupted and killed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn.architectures import squeezenet
from cnn.backend import Device, mx
from cnn.batches import FeatureBatches, RecordBatches
from cnn.checkpoints import Arrays, Checkpoint, load_checkpoint, load_state, save_checkpoint
from cnn.datasets import Dataset
from cnn.errors import UserError
from cnn.features import FEATURES, FeatureStore
from cnn.hyperparameters import Stage, Training
from cnn.learner import Classes, Learner, class_weights
from cnn.models import transfer_model
from cnn.networks import initialise, parameters, random_parameters, set_parameters
from cnn.packing import pack_dataset
from cnn.recipes import hotdog_recipe
from cnn.training import train

START = Checkpoint(random_parameters(seed=3))
CLASSES = Classes(("hotdog", "not_hotdog"), positive=0, counts=(8, 8))
ON_FEATURES = Stage(views=2, epochs=3, batch_size=8, optimizer="adam", schedule="cosine", weight_decay=0.1)


def make_learner(
    stage: Stage,
    devices: Sequence[Device] = (mx.cpu(),),
    seed: int = 0,
    classes: Classes = CLASSES,
    start: Arrays = START.parameters,
) -> Learner:
    return Learner(stage, classes, transfer_model(stage, len(classes.names), start, devices, seed), devices)


@pytest.fixture(scope="module")
def records(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records") / "packed"
    pack_dataset(drawn_dataset, folder)
    return folder


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


def notebook_losses(records: Path, stage: Stage, seed: int, batches: int) -> list[float]:
    """The loop of the notebook's section "Transfer Learning", its names kept, one epoch of so many batches."""
    from mxnet import autograd, gluon
    from mxnet.image import color_normalize

    ctx, batch_size = [mx.cpu()], stage.batch_size
    dognet = initialise(squeezenet(2), 224, ctx, seed)
    set_parameters(dognet, START.parameters, prefix="features")
    augmentation_seed = int(np.random.default_rng([seed, 1]).integers(2**31))
    train_iter = mx.io.ImageRecordIter(
        path_imgrec=str(records / "train.rec"), path_imgidx=str(records / "train.idx"),
        min_img_size=256, data_shape=(3, 224, 224), rand_crop=True,
        shuffle=True, batch_size=batch_size, max_random_scale=1.5, min_random_scale=0.75, rand_mirror=True,
        seed=augmentation_seed, seed_aug=augmentation_seed, preprocess_threads=2,
    )  # fmt: skip
    trainer = gluon.Trainer(dognet.output.collect_params(), "sgd", {"learning_rate": 0.01})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()

    def unbalanced_loss(loss_func: Any, z: Any, y: Any) -> Any:
        positive_class_weight = 5
        regular_loss = loss_func(z, y)
        return regular_loss * (1 + y * positive_class_weight) / positive_class_weight

    losses = []
    mx.random.seed(seed * 1000 + 1)
    for batch in train_iter:
        data = color_normalize(
            batch.data[0] / 255,
            mean=mx.nd.array([0.485, 0.456, 0.406]).reshape((1, 3, 1, 1)),
            std=mx.nd.array([0.229, 0.224, 0.225]).reshape((1, 3, 1, 1)),
        )
        data = gluon.utils.split_and_load(data, ctx_list=ctx, batch_axis=0)
        label = gluon.utils.split_and_load(batch.label[0], ctx_list=ctx, batch_axis=0)
        Ls = []  # noqa: N806
        with autograd.record():
            for x, y in zip(data, label, strict=True):
                Ls.append(unbalanced_loss(loss, dognet(x), y))
            for L in Ls:  # noqa: N806
                L.backward()
        trainer.step(batch.data[0].shape[0])
        losses.append(float(Ls[0].mean().asscalar()))
    assert len(losses) == batches
    return losses


def test_notebook_recipe_is_the_notebooks_loop(drawn_dataset: Dataset, records: Path) -> None:
    stage = hotdog_recipe("notebook").stages[0].model_copy(update={"batch_size": 4})
    task = Classes(("not_hotdog", "hotdog"), positive=1, counts=(8, 8))
    learner = make_learner(stage, seed=5, classes=task)
    batches = RecordBatches(drawn_dataset, records, stage, seed=5)
    mx.random.seed(5 * 1000 + 1)
    losses = [learner.step(batch, stage.learning_rate)[0] for batch in batches.training(epoch=1)]
    expected = notebook_losses(records, stage, seed=5, batches=batches.steps_per_epoch)
    assert len(set(np.round(expected, 4))) > 1  # it does learn
    np.testing.assert_allclose(losses, expected, atol=1e-4)


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


@pytest.mark.parametrize(
    "stage",
    [
        ON_FEATURES,
        Stage(epochs=2, batch_size=8),
        Stage(trains="all", epochs=2, batch_size=8, optimizer="adam"),
    ],
    ids=["features", "frozen", "all"],
)
def test_a_killed_training_ends_as_an_uninterrupted_one(
    stage: Stage, drawn_dataset: Dataset, features: Path, records: Path, tmp_path: Path
) -> None:
    def run(state: Path) -> Checkpoint:
        batches = (
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
    import cnn.training as module

    real = module.save_state
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, "save_state", kill_after_first_epoch)
        run(tmp_path / "killed.npz")
    state = load_state(tmp_path / "killed.npz")
    assert state is not None and state.epochs_done == 1
    resumed = run(tmp_path / "killed.npz")
    assert resumed.history == whole.history
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


def test_a_dead_output_is_said(
    drawn_dataset: Dataset, records: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = START.parameters | {"output.0.weight": np.zeros((2, 512, 1, 1)), "output.0.bias": np.full(2, -1.0)}
    stage = Stage(trains="all", epochs=0, batch_size=8)
    batches = RecordBatches(drawn_dataset, records, stage, 0)
    train(make_learner(stage, start=dead), batches, 0, tmp_path / "state.npz")
    assert "dead" in caplog.text


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
