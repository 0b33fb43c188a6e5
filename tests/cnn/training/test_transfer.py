"""Transfer learning as a whole: what is solved or trained, and from where."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import write_images
from learners import CLASSES, START, assert_same, make_learner
from numpy.typing import NDArray
from PIL import Image, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import center_view, to_tensor
from cnn.data.preparation import prepare
from cnn.evaluation.trained import trained_classifier
from cnn.networks.architectures import PRETRAINED, NetworkConfig, pretrained_network
from cnn.networks.initializers import random_parameters
from cnn.networks.running import initialise, parameters, set_parameters
from cnn.support.backend import Devices, Network, mx
from cnn.support.errors import UserError
from cnn.training.checkpoints import Arrays, Checkpoint, load_checkpoint, pretrained, save_checkpoint
from cnn.training.features import FeatureStore
from cnn.training.head import Head
from cnn.training.hyperparameters import HeadStage, ImageStage
from cnn.training.records import RecordBatches
from cnn.training.transfer import head_parameters, make_inputs, transfer, transfer_model

SEED = 7
HEAD = HeadStage(strengths=(0.01, 0.1, 1.0), folds=4)
FROZEN = ImageStage(epochs=1, batch_size=8)


@pytest.fixture(scope="module")
def features(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs of `HEAD`."""
    folder = tmp_path_factory.mktemp("features")
    make_inputs(drawn_dataset, START, HEAD, folder)
    return folder


@pytest.fixture(scope="module")
def solved(drawn_dataset: Dataset, features: Path) -> Checkpoint:
    """What `HEAD` ends with."""
    return transfer(drawn_dataset, START, HEAD, seed=SEED, inputs=features)


def differing(first: Arrays, second: Arrays) -> set[str]:
    """First parts of the names of parameters that are not the same."""
    return {name.partition(".")[0] for name in first if (first[name] != second[name]).any()}


def zoo_network(checkpoint: Checkpoint, folder: Path) -> Callable[[list[Image.Image]], NDArray[np.float32]]:
    """Gluon's own SqueezeNet with the parameters: upright RGB images to probabilities (n, classes)."""
    net = mx.gluon.model_zoo.vision.squeezenet1_1(classes=len(checkpoint.classes))
    mx.nd.save(str(folder / "a.params"), {name: mx.nd.array(each) for name, each in checkpoint.parameters.items()})
    net.load_parameters(str(folder / "a.params"))

    def answer(images: list[Image.Image]) -> NDArray[np.float32]:
        return mx.nd.softmax(net(mx.nd.array(to_tensor([center_view(each) for each in images])))).asnumpy()

    return answer


def regression(dataset: Dataset, features: Path, strength: float, start: Checkpoint) -> Callable[..., NDArray]:
    """scikit-learn's regression on the mean features of train and validation: images to probabilities (n, classes).

    It answers by the middle of an image, or, with ``mirrored``, by that and its mirror image.
    """
    found = [dataset.ids_and_labels(split) for split in ("train", "validation")]
    labels = np.concatenate([each for _, each in found])
    values = FeatureStore(features).load([image_id for ids, _ in found for image_id in ids]).astype(float)
    options = {"class_weight": "balanced", "tol": 1e-9, "max_iter": 10_000}
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (strength * len(labels)), **options))
    estimator.fit(values, labels)
    net = transfer_model(2, start.parameters, seed=0).net

    def features_of(views: list[Image.Image]) -> NDArray[np.float64]:
        return net.features(mx.nd.array(to_tensor(views))).asnumpy().mean((2, 3)).astype(float)

    def answer(images: list[Image.Image], mirrored: bool = False) -> NDArray[np.float64]:
        views = [center_view(each) for each in images]
        found = features_of(views)
        if mirrored:
            found = (found + features_of([ImageOps.mirror(view) for view in views])) / 2
        return estimator.predict_proba(found)

    return answer


def nothing_to_see() -> list[Image.Image]:
    """Black, white, noise of two kinds, stripes."""
    rng = np.random.default_rng(1)
    fine, coarse = (rng.integers(0, 256, (side, side, 3), np.uint8) for side in (256, 8))
    stripes = np.tile(np.array([0, 255], np.uint8)[:, None, None], (128, 256, 3))
    images = [
        np.zeros_like(fine),
        np.full_like(fine, 255),
        fine,
        np.kron(coarse, np.ones((32, 32, 1), np.uint8)),
        stripes,
    ]
    return [Image.fromarray(each) for each in images]


# ---- a head that is solved


def test_solved_head_knows_its_images(
    drawn_dataset: Dataset, features: Path, solved: Checkpoint, tmp_path: Path
) -> None:
    ids = [image_id for split in ("train", "validation") for image_id in drawn_dataset.ids_and_labels(split)[0]]
    values = FeatureStore(features).load(ids)
    save_checkpoint(tmp_path, solved)
    novelty = load_checkpoint(tmp_path).novelty
    assert novelty and not novelty.is_novel(values).any() and novelty.distances(values).max() < 0.02 < novelty.limit


def test_inputs_are_made_if_need_be(drawn_dataset: Dataset, solved: Checkpoint) -> None:
    assert_same(transfer(drawn_dataset, START, HEAD, seed=SEED), solved)


def test_solved_network_is_the_regression(
    drawn_dataset: Dataset, features: Path, solved: Checkpoint, tmp_path: Path
) -> None:
    assert solved.strength
    images = [decode(row.data) for row in drawn_dataset.rows("test")] + nothing_to_see()
    answer = regression(drawn_dataset, features, solved.strength, START)
    assert np.ptp(answer(images)) > 0.1
    np.testing.assert_allclose(zoo_network(solved, tmp_path)(images), answer(images), atol=1e-4)
    found = np.stack(list(trained_classifier(solved).predict(map(center_view, images))))
    np.testing.assert_allclose(found, answer(images, mirrored=True), atol=1e-4)


@pytest.mark.slow
def test_solved_network_is_the_regression_on_photos(shared: Callable[[str], Path], tmp_path: Path) -> None:
    photos = shared("hotdog-photos")
    for photo in sorted(photos.rglob("*.jpg"))[::4]:
        (link := tmp_path / "photos" / photo.relative_to(photos)).parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(photo)
    dataset = prepare(tmp_path / "photos", tmp_path / "dataset")
    start = pretrained(shared("squeezenet1_1/squeezenet1_1.params"))
    make_inputs(dataset, start, HEAD, tmp_path / "features")
    solved = transfer(dataset, start, HEAD, inputs=tmp_path / "features")
    assert solved.strength
    images = [decode(row.data) for row in list(dataset.rows("test"))[::5]] + nothing_to_see()
    expected = regression(dataset, tmp_path / "features", solved.strength, start)(images)
    np.testing.assert_allclose(zoo_network(solved, tmp_path)(images), expected, atol=1e-4)


def test_checkpoint_says_how_it_was_solved(drawn_dataset: Dataset, solved: Checkpoint, tmp_path: Path) -> None:
    assert solved.network == PRETRAINED.model_copy(update={"mirrored_mean": True})
    assert solved.classes == drawn_dataset.classes == CLASSES.names
    assert not solved.history and not solved.timings
    assert not differing(
        {name: each for name, each in solved.parameters.items() if "output" not in name}, START.parameters
    )
    ids = [image_id for split in ("train", "validation") for image_id in drawn_dataset.ids_and_labels(split)[0]]
    assert solved.held_out["ids"].tolist() == ids
    np.testing.assert_allclose(solved.held_out["probabilities"].sum(1), 1, atol=1e-6)
    assert [each["strength"] for each in solved.path] == [1.0, 0.1, 0.01] and solved.strength in HEAD.strengths
    assert [point["images"] for point in solved.learning_curve] == [3, 7, 10, 14, 18]
    save_checkpoint(tmp_path, solved)
    assert_same(load_checkpoint(tmp_path), solved)


def test_kept_validation_is_not_learnt_from(drawn_dataset: Dataset, features: Path) -> None:
    train_ids = drawn_dataset.ids_and_labels("train")[0]
    untested = drawn_dataset.model_copy(
        update={"counts": {split: drawn_dataset.counts[split] for split in ("train", "validation")}}
    )
    kept, only_one = (
        transfer(dataset, START, stage, inputs=features)
        for dataset, stage in ((drawn_dataset, HEAD.replace(keep_validation=True)), (untested, HEAD))
    )
    assert kept.held_out["ids"].tolist() == only_one.held_out["ids"].tolist() == train_ids
    assert not differing(kept.parameters, only_one.parameters)


def test_start_and_seed_decide_the_result(drawn_dataset: Dataset, features: Path, solved: Checkpoint) -> None:
    other_start = Checkpoint(PRETRAINED, (), random_parameters(seed=4))
    assert "output" in differing(transfer(drawn_dataset, other_start, HEAD).parameters, solved.parameters)
    other_seed = transfer(drawn_dataset, START, HEAD, seed=1, inputs=features)
    assert (other_seed.held_out["probabilities"] != solved.held_out["probabilities"]).any()  # other folds


def test_too_few_images_are_named(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("validation", 10)):
        write_images(tmp_path / "photos" / split, 2, first)
    for index in (1,):
        (tmp_path / "photos" / "train" / "hotdog" / f"{index:04}.jpg").unlink()
    dataset = prepare(tmp_path / "photos", tmp_path / "dataset")
    with pytest.raises(UserError, match="class hotdog: expected two images or more to learn from, found 1: add some"):
        transfer(dataset, START, HEAD)


def test_unknown_positive_class_is_refused(drawn_dataset: Dataset, features: Path) -> None:
    with pytest.raises(UserError, match="no such class; choose one of hotdog, not_hotdog"):
        transfer(drawn_dataset, START, HEAD, positive="cow", inputs=features)


# ---- an output block that is trained


def test_positive_class_is_the_one_asked_for(drawn_dataset: Dataset, records: Path) -> None:
    found = [
        transfer(drawn_dataset, START, FROZEN.replace(epochs=0), positive=positive, inputs=records).history[0]
        for positive in (None, *drawn_dataset.classes)
    ]
    assert found[0] == found[1]
    recalls = [row["validation_recall"] for row in found[1:]]
    assert np.mean(recalls) == found[0]["validation_accuracy"]  # of four images each


def test_output_block_is_new_and_depends_on_the_seed() -> None:
    one, again, other = (parameters(transfer_model(2, START.parameters, seed).net) for seed in (0, 0, 1))
    assert not differing(one, again)
    assert differing(one, other) == {"output"}
    assert all((one[name] == START.parameters[name]).all() for name in one if name.startswith("features"))


def test_only_the_output_block_changes(drawn_dataset: Dataset, records: Path) -> None:
    learner = make_learner(FROZEN, Devices(numbers=(0, 1)))
    before = parameters(learner.model.net)
    learner.step(next(RecordBatches(drawn_dataset, records, FROZEN, seed=0).training(1)), 0.01)
    assert differing(parameters(learner.model.net), before) == {"output"}
    for parameter in learner.model.net.collect_params().values():
        first, second = (copy.asnumpy() for copy in parameter.list_data())
        np.testing.assert_array_equal(first, second)


def test_frozen_features_give_the_networks_outputs(drawn_dataset: Dataset, records: Path) -> None:
    images, _ = next(RecordBatches(drawn_dataset, records, FROZEN, seed=0).evaluation("validation"))
    model = transfer_model(2, START.parameters, seed=0)
    expected = model.net.output(model.net.features(images)).asnumpy()
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(model.predict(images).asnumpy(), expected, rtol=1e-4, atol=1e-6)


def test_killed_training_ends_as_an_uninterrupted_one(drawn_dataset: Dataset, records: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def killed_in_second_epoch(self: RecordBatches, epoch: int) -> object:
        if epoch == 2:
            raise Killed
        return training(self, epoch)

    stage, state_file, training = FROZEN.replace(epochs=2), tmp_path / "state.npz", RecordBatches.training
    whole = transfer(drawn_dataset, START, stage)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RecordBatches, "training", killed_in_second_epoch)
        transfer(drawn_dataset, START, stage, inputs=records, state_file=state_file)
    assert state_file.exists()
    assert_same(transfer(drawn_dataset, START, stage, inputs=records, state_file=state_file), whole)


@pytest.mark.gpu
def test_gpu_solves_as_the_cpu_does(drawn_dataset: Dataset) -> None:
    cpu, gpu = (transfer(drawn_dataset, START, HEAD, devices=each) for each in (Devices(), Devices(kind="gpu")))
    np.testing.assert_allclose(gpu.held_out["probabilities"], cpu.held_out["probabilities"], atol=1e-3)


@pytest.mark.parametrize("backbone", ["mobilenetv2_1.0", "resnet18_v2"])
def test_head_is_exact_where_no_relu_clips(backbone: str) -> None:
    """The logits themselves are the regression's, with nothing added to the bias."""
    network, rng = pretrained_network(backbone), np.random.default_rng(0)
    net = transfer_network(network, random_parameters(0, network))
    images = rng.standard_normal((2, 3, 224, 224)).astype(np.float32)
    means = net.features(mx.nd.array(images)).asnumpy().mean((2, 3))
    head = Head(rng.standard_normal((3, means.shape[1])) / means.max(), rng.standard_normal(3), (), 1.0, means)
    set_parameters(net, head_parameters(net, head, images), prefix="output")
    expected = means @ head.weight.T + head.bias
    np.testing.assert_allclose(net(mx.nd.array(images)).asnumpy(), expected, rtol=1e-4, atol=1e-3)


def transfer_network(network: NetworkConfig, weights: Arrays) -> Network:
    net = initialise(network.build(3), network.preprocessing.crop, seed=0)
    set_parameters(net, weights, prefix="features")
    return net
