"""Recipe ``notebook`` against the notebook's own loops, their names kept."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learners import START, make_fresh_learner, make_learner

import cnn.training.loop
from cnn.data.datasets import Dataset
from cnn.networks.architectures import squeezenet
from cnn.networks.running import initialise, set_parameters
from cnn.support.backend import mx
from cnn.training.batches import Batch, Batches
from cnn.training.hyperparameters import ImageStage
from cnn.training.learner import Classes, Learner
from cnn.training.loop import train
from cnn.training.pixels import PixelBatches
from cnn.training.recipes import cifar_recipe, hotdog_recipe
from cnn.training.records import RecordBatches


def notebook_losses(records: Path, stage: ImageStage, seed: int, batches: int) -> list[float]:
    """The loop of the notebook's section "Transfer Learning", its names kept, one epoch of so many batches."""
    from mxnet import autograd, gluon
    from mxnet.image import color_normalize

    ctx, batch_size = [mx.cpu()], stage.batch_size
    dognet = initialise(squeezenet(2), 224, seed)
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


def test_hotdog_recipe_is_the_notebooks_loop(drawn_dataset: Dataset, records: Path) -> None:
    (preset,) = hotdog_recipe("notebook").stages
    assert isinstance(preset, ImageStage)
    stage = preset.replace(batch_size=4)
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
def test_cifar_recipe_is_the_notebooks_loop(
    architecture: str,
    rate: float,
    drawn_dataset: Dataset,
    pixels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (preset,) = cifar_recipe("notebook", architecture).stages
    assert (preset.epochs, preset.batch_size) == (7, 64)
    stage = preset.replace(epochs=2, batch_size=5)
    batches = PixelBatches(drawn_dataset, pixels, stage, seed=5)
    learner, found = make_fresh_learner(stage, batches, seed=5), []

    def recorded_step(batch: Batch, learning_rate: float) -> tuple[float, Any]:
        loss, outputs = Learner.step(learner, batch, learning_rate)
        found.append(loss)
        return loss, outputs

    monkeypatch.setattr(learner, "step", recorded_step)
    monkeypatch.setattr(cnn.training.loop, "save_state", lambda path, state: None)  # AlexNet's would take seconds
    monkeypatch.setattr(cnn.training.loop, "_BATCHES_BETWEEN_LOSSES", 2)
    caplog.set_level(logging.INFO)
    _, history, _, _ = train(learner, batches, seed=5, state_file=tmp_path / "state.npz")

    net = notebook_network(architecture)
    net.collect_params().initialize(mx.init.Xavier(magnitude=2.24))
    mx.random.seed(5)
    net(mx.nd.zeros((1, 3, 32, 32)))  # the weights are drawn at the first forward pass
    losses, printed_batches, printed = notebook_training(net, batches, epochs=2, rate=rate, seed=5)
    assert len(losses) == 2 * 3 and np.ptp(losses) > 1e-2  # it does learn
    np.testing.assert_allclose(found, losses, atol=1e-4)
    logged_batches = re.findall(r"batch (\d+): loss ([\d.]+)", caplog.text)
    np.testing.assert_allclose(np.array(logged_batches, float), printed_batches, atol=1e-4)
    columns = ("train_moving_loss", "train_accuracy", "validation_accuracy")
    np.testing.assert_allclose([[row[name] for name in columns] for row in history[1:]], printed, atol=1e-4)


def test_batches_are_stretched_and_noisy(drawn_dataset: Dataset, pixels: Path) -> None:
    (preset,) = cifar_recipe("notebook", "alexnet").stages
    batches = PixelBatches(drawn_dataset, pixels, preset.replace(batch_size=5), seed=5)
    images = np.load(pixels / "train.npy").astype(np.float64)
    least, greatest = (pick(axis=(1, 2, 3), keepdims=True) for pick in (images.min, images.max))
    plain = (images - least) / (greatest - least)
    labels = drawn_dataset.ids_and_labels("train")[1]
    noises: dict[int, np.ndarray] = {}
    for epoch in (1, 2):
        seen = []
        for data, label in batches.training(epoch):
            assert data.shape == (5, 3, 32, 32)
            for image, class_number in zip(data.asnumpy(), label, strict=True):
                number = int(np.abs(plain - image).mean(axis=(1, 2, 3)).argmin())
                noise = noises.setdefault(number, image - plain[number])
                assert class_number == labels[number]
                np.testing.assert_array_equal(image - plain[number], noise)  # drawn once, for all epochs
                seen.append(number)
        assert len(seen) == len(set(seen)) == 15  # of 16 images, three batches; the rest is discarded
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
