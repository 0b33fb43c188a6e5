"""Mean features: right, compact, added to and repaired."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learners import START
from numpy.typing import NDArray
from writers import flip

import cnn.training.features
from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import center_view, to_tensor
from cnn.networks.architectures import squeezenet
from cnn.networks.running import initialise, set_parameters
from cnn.support.backend import CPU, Devices, mx
from cnn.support.files import folder_size
from cnn.training.features import Embedder, FeatureStore, embed, embed_shards, learning_splits, missing, write_shard

LEARNT = ("train", "validation")
CHANNELS = 512


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces the network by its inputs' means, and notes how many images it is given at a time."""
    counts: list[int] = []

    class MeanRunner:
        def __init__(self, *_: Any) -> None:
            pass

        def __call__(self, inputs: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
            for images in inputs:
                counts.append(len(images))
                yield np.repeat(images.mean(axis=(1, 2, 3))[:, None], CHANNELS, axis=1)

    monkeypatch.setattr(cnn.training.features, "Runner", MeanRunner)
    return counts


def add(dataset: Dataset, folder: Path, *, devices: Devices = CPU) -> int:
    return embed(dataset, START, folder, splits=LEARNT, devices=devices)


def ids_of(dataset: Dataset, *splits: str) -> list[str]:
    return [image_id for split in splits for image_id in dataset.ids_and_labels(split)[0]]


def read(folder: Path, dataset: Dataset) -> dict[str, NDArray[np.float32]]:
    """The features of each training image, (channels,), by its id."""
    ids = ids_of(dataset, "train")
    return dict(zip(ids, FeatureStore(folder).load(ids), strict=True))


@pytest.mark.parametrize("devices", [CPU, Devices(numbers=(0, 1))], ids=str)
def test_features_are_mxnets_averaged(devices: Devices, drawn_dataset: Dataset, tmp_path: Path) -> None:
    assert add(drawn_dataset, tmp_path, devices=devices) == 24
    net = initialise(squeezenet(2), 224, seed=0)
    set_parameters(net, START.parameters, prefix="features")
    for split in LEARNT:
        rows = list(drawn_dataset.rows(split))
        maps = net.features(mx.nd.array(to_tensor([center_view(decode(row.data)) for row in rows]))).asnumpy()
        expected = maps.mean((2, 3))
        assert expected.std() > 0.1
        found = FeatureStore(tmp_path).load([row.id for row in rows])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_what_a_head_may_learn_from(drawn_dataset: Dataset) -> None:
    untested = drawn_dataset.model_copy(update={"counts": {split: {} for split in LEARNT}})
    assert learning_splits(drawn_dataset, False) == LEARNT
    assert learning_splits(drawn_dataset, True) == ("train",)
    assert learning_splits(untested, False) == ("train",)


def test_only_missing_images_are_embedded(drawn_dataset: Dataset, tmp_path: Path, embedded: list[int]) -> None:
    known = ids_of(drawn_dataset, "train")[3]
    write_shard(tmp_path, [(known, np.ones(CHANNELS, np.float32))])
    assert add(drawn_dataset, tmp_path) == 23
    assert embedded == [1] * 23
    assert (read(tmp_path, drawn_dataset)[known] == 1).all()
    embedded.clear()
    assert add(drawn_dataset, tmp_path) == 0
    assert not embedded


@pytest.mark.usefixtures("embedded")
def test_test_images_are_not_embedded(drawn_dataset: Dataset, tmp_path: Path) -> None:
    add(drawn_dataset, tmp_path)
    store = FeatureStore(tmp_path)
    assert all(image_id in store for image_id in ids_of(drawn_dataset, *LEARNT))
    assert not any(image_id in store for image_id in ids_of(drawn_dataset, "test"))


@pytest.mark.usefixtures("embedded")
def test_altered_file_is_embedded_again(drawn_dataset: Dataset, tmp_path: Path) -> None:
    add(drawn_dataset, tmp_path)
    before = read(tmp_path, drawn_dataset)
    (shard,) = tmp_path.glob("*.arrow")
    shard.write_bytes(flip(shard.read_bytes(), 3000, 1))
    assert add(drawn_dataset, tmp_path) == 24
    after = read(tmp_path, drawn_dataset)
    assert all((after[image_id] == before[image_id]).all() for image_id in before)


@pytest.mark.usefixtures("embedded")
def test_large_dataset_has_several_files(
    drawn_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnn.training.features, "_IMAGES_PER_SHARD", 5)
    add(drawn_dataset, tmp_path)
    together = {path.name: path.read_bytes() for path in tmp_path.glob("*.arrow")}
    assert len(together) == 5  # of 24 images
    each, embedder = tmp_path / "each", Embedder(START)
    for shard in missing(drawn_dataset, each, LEARNT):
        embed_shards(drawn_dataset, [shard], embedder, each)
    assert {path.name: path.read_bytes() for path in each.iterdir()} == together
    assert missing(drawn_dataset, each, LEARNT) == []
    centres = to_tensor([center_view(decode(row.data)) for row in drawn_dataset.rows("train")]).mean(axis=(1, 2, 3))
    for features, centre in zip(read(tmp_path, drawn_dataset).values(), centres, strict=True):
        np.testing.assert_allclose(features, centre, rtol=1e-3)
    assert not list(tmp_path.rglob(".*"))


def test_what_is_loaded_is_what_was_added(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((5, CHANNELS), np.float32)
    items = list(zip("pqrst", values, strict=True))
    write_shard(tmp_path, items[:3])
    write_shard(tmp_path, items[3:])
    store = FeatureStore(tmp_path)
    np.testing.assert_array_equal(store.load("tpr"), values[[4, 0, 2]])
    assert "p" in store and "u" not in store


def test_an_image_takes_two_kilobytes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((256, CHANNELS), np.float32)
    write_shard(tmp_path, [(f"{number:064x}", each) for number, each in enumerate(values)])
    assert folder_size(tmp_path) / 256 * 20_000 < 50e6
