"""The training loop against the notebook's own, on one device and several, uninterrupted and killed."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnn.training
from cnn.architectures import ARCHITECTURES
from cnn.backend import Device, mx
from cnn.batches import Batch, Batches, FeatureBatches, PixelBatches, RecordBatches
from cnn.checkpoints import Arrays, Checkpoint, load_checkpoint, load_state, save_checkpoint
from cnn.datasets import Dataset
from cnn.errors import UserError
from cnn.features import FEATURES, FeatureStore
from cnn.hyperparameters import FromScratch, Stage, Training
from cnn.learner import Classes, Learner, class_weights
from cnn.models import fresh_model, transfer_model
from cnn.networks import initialise, parameters, random_parameters, set_parameters
from cnn.packing import pack_dataset, pack_pixels
from cnn.recipes import cifar_recipe, hotdog_recipe
from cnn.squeezenet import squeezenet
from cnn.training import learning_rate, train

START = Checkpoint(random_parameters(seed=3))
CLASSES = Classes(("hotdog", "not_hotdog"), positive=0, counts=(8, 8))
ON_FEATURES = Stage(views=2, epochs=3, batch_size=8, optimizer="adam", schedule="cosine", weight_decay=0.1)
FROM_SCRATCH = FromScratch(
    architecture="lenet", epochs=3, batch_size=4, momentum=0.9, schedule="linear", warm_up=0.2, weight_decay=1e-3,
    mirror=True, shift=2, initializer="whitening", learning_rate=0.01,
)  # fmt: skip


def make_learner(
    stage: Stage,
    devices: Sequence[Device] = (mx.cpu(),),
    seed: int = 0,
    classes: Classes = CLASSES,
    start: Arrays = START.parameters,
) -> Learner:
    return Learner(stage, classes, transfer_model(stage, len(classes.names), start, devices, seed), devices)


def make_fresh_learner(
    settings: FromScratch, batches: PixelBatches, devices: Sequence[Device] = (mx.cpu(),), seed: int = 0
) -> Learner:
    model = fresh_model(settings, len(CLASSES.names), devices, seed, batches.examples())
    return Learner(settings, CLASSES, model, devices)


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


@pytest.fixture(scope="module")
def pixels(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pixels") / "packed"
    pack_pixels(drawn_dataset, FROM_SCRATCH.input, folder)
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


def notebook_network(name: str) -> Any:
    """The notebook's ``alex_net`` or ``vgg``, as written, for two classes."""
    from mxnet import gluon
    from mxnet.gluon import nn

    if name == "alexnet":
        alex_net = gluon.nn.Sequential()
        with alex_net.name_scope():
            alex_net.add(gluon.nn.Conv2D(channels=96, kernel_size=11, strides=(4, 4), padding=5, activation="relu"))
            alex_net.add(gluon.nn.MaxPool2D(pool_size=3, padding=1, strides=2))
            alex_net.add(gluon.nn.Conv2D(channels=192, kernel_size=5, padding=2, activation="relu"))
            alex_net.add(gluon.nn.MaxPool2D(pool_size=3, padding=1, strides=(2, 2)))
            alex_net.add(gluon.nn.Conv2D(channels=384, kernel_size=3, padding=1, activation="relu"))
            alex_net.add(gluon.nn.Conv2D(channels=384, kernel_size=3, padding=1, activation="relu"))
            alex_net.add(gluon.nn.Conv2D(channels=256, kernel_size=3, padding=1, activation="relu"))
            alex_net.add(gluon.nn.MaxPool2D(pool_size=3, padding=1, strides=2))
            alex_net.add(gluon.nn.Flatten())
            alex_net.add(gluon.nn.Dense(4096, activation="relu"))
            alex_net.add(gluon.nn.Dense(4096, activation="relu"))
            alex_net.add(gluon.nn.Dense(2))
        return alex_net

    def vgg_block(num_convs: int, channels: int) -> Any:
        out = nn.HybridSequential()
        for _ in range(num_convs):
            out.add(nn.Conv2D(channels=channels, kernel_size=3, padding=1, activation="relu"))
        out.add(nn.MaxPool2D(pool_size=2, strides=2))
        return out

    def vgg_stack(architecture: tuple[tuple[int, int], ...]) -> Any:
        out = nn.HybridSequential()
        for num_convs, channels in architecture:
            out.add(vgg_block(num_convs, channels))
        return out

    vgg = nn.HybridSequential()
    with vgg.name_scope():
        vgg.add(vgg_stack(((1, 64), (1, 128), (1, 256), (3, 512))))
        vgg.add(nn.Flatten())
        vgg.add(nn.Dense(512, activation="relu"))
        vgg.add(nn.Dropout(0.5))
        vgg.add(nn.Dense(512, activation="relu"))
        vgg.add(nn.Dropout(0.5))
        vgg.add(nn.Dense(2))
    return vgg


def notebook_training(
    net: Any, batches: Batches, epochs: int, rate: float, seed: int
) -> tuple[list[float], list[tuple[int, float]], list[tuple[float, float, float]]]:
    """The notebook's ``train(net, trainer)``, its names kept: losses, and what it prints of batches and of epochs.

    It prints every second batch and not every 200th.
    """
    from mxnet import autograd, gluon, nd

    ctx, smoothing_constant, moving_loss = mx.cpu(), 0.01, np.nan
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": rate})
    softmax_cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss()

    def evaluate_accuracy(data_iterator: Any, net: Any) -> float:
        acc = mx.metric.Accuracy()
        for data, label in data_iterator:
            acc.update(preds=nd.argmax(net(data), axis=1), labels=nd.array(label))
        return acc.get()[1]

    losses, printed_batches, printed = [], [], []
    for e in range(epochs):
        mx.random.seed(seed * 1000 + e + 1)  # for the dropout
        for i, (d, l) in enumerate(batches.training(e + 1)):  # noqa: E741
            data, label = d.as_in_context(ctx), nd.array(l, ctx)
            with autograd.record():
                output = net(data)
                loss = softmax_cross_entropy(output, label)
            loss.backward()
            trainer.step(data.shape[0])
            curr_loss = nd.mean(loss).asscalar()
            first = (i == 0) and (e == 0)
            moving_loss = (
                curr_loss if first else (1 - smoothing_constant) * moving_loss + smoothing_constant * curr_loss
            )
            losses.append(curr_loss)
            if i > 0 and i % 2 == 0:
                printed_batches.append((i, moving_loss))
        test_accuracy = evaluate_accuracy(batches.evaluation("validation"), net)
        train_accuracy = evaluate_accuracy(batches.evaluation("train"), net)
        printed.append((moving_loss, train_accuracy, test_accuracy))
    return losses, printed_batches, printed


@pytest.mark.parametrize(("architecture", "rate"), [("alexnet", 0.1), ("vgg", 0.05)])
def test_the_notebook_recipe_from_scratch_is_the_notebooks_loop(
    architecture: str,
    rate: float,
    drawn_dataset: Dataset,
    pixels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    preset = cifar_recipe("notebook", architecture)
    assert (preset.epochs, preset.batch_size) == (7, 64)
    settings = preset.model_copy(update={"epochs": 2, "batch_size": 5})
    batches = PixelBatches(drawn_dataset, pixels, settings, seed=5)
    learner, found = make_fresh_learner(settings, batches, seed=5), []

    def recorded_step(batch: Batch, learning_rate: float) -> tuple[float, Any]:
        loss, outputs = Learner.step(learner, batch, learning_rate)
        found.append(loss)
        return loss, outputs

    monkeypatch.setattr(learner, "step", recorded_step)
    monkeypatch.setattr(cnn.training, "save_state", lambda path, state: None)  # AlexNet's would take seconds
    monkeypatch.setattr(cnn.training, "_BATCHES_BETWEEN_LOSSES", 2)
    caplog.set_level(logging.INFO)
    history = train(learner, batches, 5, tmp_path / "state.npz").history

    net = notebook_network(architecture)
    net.collect_params().initialize(mx.init.Xavier(magnitude=2.24))
    mx.random.seed(5)
    net(mx.nd.zeros((1, 3, 32, 32)))  # the weights are drawn at the first forward pass
    losses, printed_batches, printed = notebook_training(net, batches, epochs=2, rate=rate, seed=5)
    assert len(losses) == 2 * 3 and np.ptp(losses) > 1e-2  # it does learn
    np.testing.assert_allclose(found, losses, atol=1e-4)
    told_batches = re.findall(r"batch (\d+): loss ([\d.]+)", caplog.text)
    np.testing.assert_allclose(np.array(told_batches, float), printed_batches, atol=1e-4)
    told = ("train_moving_loss", "train_accuracy", "validation_accuracy")
    np.testing.assert_allclose([[row[name] for name in told] for row in history[1:]], printed, atol=1e-4)


def test_batches_of_the_notebook_recipe_are_its_stretched_and_noisy_pictures(
    drawn_dataset: Dataset, pixels: Path
) -> None:
    settings = cifar_recipe("notebook", "alexnet").model_copy(update={"batch_size": 5})
    batches = PixelBatches(drawn_dataset, pixels, settings, seed=5)
    pictures = np.load(pixels / "train.npy").astype(np.float64)
    least, greatest = (pick(axis=(1, 2, 3), keepdims=True) for pick in (pictures.min, pictures.max))
    plain = (pictures - least) / (greatest - least)
    labels = drawn_dataset.ids_and_labels("train")[1]
    noises: dict[int, np.ndarray] = {}
    for epoch in (1, 2):
        seen = []
        for data, label in batches.training(epoch):
            assert data.shape == (5, 3, 32, 32)
            for picture, answer in zip(data.asnumpy(), label, strict=True):
                number = int(np.abs(plain - picture).mean(axis=(1, 2, 3)).argmin())
                noise = noises.setdefault(number, picture - plain[number])
                assert answer == labels[number]
                np.testing.assert_array_equal(picture - plain[number], noise)  # drawn once, for all epochs
                seen.append(number)
        assert len(seen) == len(set(seen)) == 15  # of 16 pictures, three batches; the rest is discarded
        assert seen != sorted(seen)
    numbers = sorted(noises)
    noise = np.stack([noises[number] for number in numbers])
    assert (noise + plain[numbers]).min() >= 0 and (noise + plain[numbers]).max() <= 1 + 1e-6
    inside = noise[(plain[numbers] > 0.05) & (plain[numbers] < 0.95)]  # five deviations from being cut
    assert inside.std() == pytest.approx(0.01, rel=0.02) and inside.mean() == pytest.approx(0, abs=1e-3)
    again = np.concatenate([data.asnumpy() for data, _ in batches.evaluation("train")])
    np.testing.assert_allclose(again[numbers], plain[numbers] + noise, atol=1e-7)
    validation = np.concatenate([data.asnumpy() for data, _ in batches.evaluation("validation")])
    assert len(validation) == 8 and not validation.min(axis=(1, 2, 3)).any()
    assert (validation.max(axis=(1, 2, 3)) == 1).all()  # no noise there


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
