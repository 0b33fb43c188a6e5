"""Cached features: right, compact, added to and repaired."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from writers import flip

import cnn.training.features
from cnn.data.datasets import Dataset
from cnn.data.images import center_view, decode, to_tensor
from cnn.networks.architectures import squeezenet
from cnn.networks.initializers import random_parameters
from cnn.networks.running import initialise, set_parameters
from cnn.support.backend import Devices, mx
from cnn.training.features import FEATURES, FeatureStore, embed, feature_stores

WEIGHTS = random_parameters(seed=1)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces the network by its inputs' means, and notes how many views it is given in each batch."""
    counts: list[int] = []

    def run_batches(
        network: object, batches: Iterable[NDArray[np.float32]], size: int, devices: Devices
    ) -> Iterator[NDArray[np.float32]]:
        for batch in batches:
            assert len(batch) <= size
            counts.append(len(batch))
            yield np.broadcast_to(batch.mean(axis=(1, 2, 3))[:, None, None, None], (len(batch), *FEATURES))

    monkeypatch.setattr(cnn.training.features, "run_batches", run_batches)
    return counts


def read(folder: Path, dataset: Dataset, views: int) -> dict[str, NDArray[np.float32]]:
    """The features of each training image, (views, 512, 7, 7), by its id."""
    store = feature_stores(folder, views)["train"]
    ids = dataset.ids_and_labels("train")[0]
    return {image_id: np.stack([store.read(image_id, view) for view in range(views)]) for image_id in ids}


def test_features_are_the_networks_averaged(drawn_dataset: Dataset, tmp_path: Path) -> None:
    assert embed(drawn_dataset, WEIGHTS, tmp_path, views=1, seed=0) == {"train": 16, "validation": 8}
    net = initialise(squeezenet(2), 224, seed=0)
    set_parameters(net, WEIGHTS, prefix="features")
    edges = [(int(np.floor(i * 13 / 7)), int(np.ceil((i + 1) * 13 / 7))) for i in range(7)]
    for split, store in feature_stores(tmp_path, views=1).items():
        row = list(drawn_dataset.rows(split))[5]
        full = net.features(mx.nd.array(to_tensor([center_view(decode(row.data))]))).asnumpy()[0]
        averaged = np.array([[full[:, a:b, c:d].mean((1, 2)) for c, d in edges] for a, b in edges]).transpose(2, 0, 1)
        assert averaged.std() > 0.1
        np.testing.assert_allclose(store.read(row.id, 0), averaged, rtol=2e-3, atol=1e-3 * full.max())


def test_only_missing_images_are_embedded(drawn_dataset: Dataset, tmp_path: Path, embedded: list[int]) -> None:
    known = drawn_dataset.ids_and_labels("train")[0][3]
    ones = np.ones((3, *FEATURES), np.float16)
    FeatureStore(tmp_path / "train", 3).add([(known, ones)])
    assert embed(drawn_dataset, WEIGHTS, tmp_path, views=3, seed=0) == {"train": 15, "validation": 8}
    assert sum(embedded) == 3 * 15 + 8
    assert (read(tmp_path, drawn_dataset, 3)[known] == 1).all()
    embedded.clear()
    assert embed(drawn_dataset, WEIGHTS, tmp_path, views=3, seed=0) == {"train": 0, "validation": 0}
    assert not embedded


def test_altered_file_is_embedded_again(drawn_dataset: Dataset, tmp_path: Path, embedded: list[int]) -> None:
    embed(drawn_dataset, WEIGHTS, tmp_path, views=2, seed=0)
    before = read(tmp_path, drawn_dataset, 2)
    (shard,) = (tmp_path / "train").glob("*.arrow")
    shard.write_bytes(flip(shard.read_bytes(), 3000, 1))
    assert embed(drawn_dataset, WEIGHTS, tmp_path, views=2, seed=0) == {"train": 16, "validation": 0}
    after = read(tmp_path, drawn_dataset, 2)
    assert all((after[image_id] == before[image_id]).all() for image_id in before)


@pytest.mark.usefixtures("embedded")
def test_views_depend_on_image_and_seed_alone(drawn_dataset: Dataset, tmp_path: Path) -> None:
    alone = drawn_dataset.ids_and_labels("train")[0][9]
    others = [image_id for image_id in drawn_dataset.ids_and_labels("train")[0] if image_id != alone]
    nothing = np.zeros((3, *FEATURES), np.float16)
    FeatureStore(tmp_path / "alone" / "train", 3).add([(image_id, nothing) for image_id in others])
    found = {}
    for name, seed in (("first", 0), ("alone", 0), ("other", 1)):
        embed(drawn_dataset, WEIGHTS, tmp_path / name, views=3, seed=seed)
        found[name] = read(tmp_path / name, drawn_dataset, 3)[alone]
    np.testing.assert_array_equal(found["first"], found["alone"])
    same = (found["first"] == found["other"]).all(axis=(1, 2, 3))
    assert same.tolist() == [True, False, False]  # the centre does not depend on the seed
    assert len({view.tobytes() for view in found["first"]}) == 3


@pytest.mark.usefixtures("embedded")
def test_each_image_has_views_of_its_own(
    drawn_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(drawn_dataset.rows("train"))
    monkeypatch.setattr(cnn.training.features, "decode", lambda data: decode(row.data))  # all look the same
    embed(drawn_dataset, WEIGHTS, tmp_path, views=2, seed=0)
    centres, others = np.stack(list(read(tmp_path, drawn_dataset, 2).values()), axis=1)
    assert len({each.tobytes() for each in centres}) == 1
    assert len({each.tobytes() for each in others}) > 8


def test_large_dataset_has_several_files(
    drawn_dataset: Dataset, tmp_path: Path, embedded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnn.training.features, "_IMAGES_PER_SHARD", 5)
    embed(drawn_dataset, WEIGHTS, tmp_path, views=1, seed=0)
    assert len(list((tmp_path / "train").glob("*.arrow"))) == 4  # of 16 images
    centres = to_tensor([center_view(decode(row.data)) for row in drawn_dataset.rows("train")]).mean(axis=(1, 2, 3))
    for features, centre in zip(read(tmp_path, drawn_dataset, 1).values(), centres, strict=True):
        np.testing.assert_allclose(features, centre, rtol=1e-3)
    assert not list(tmp_path.rglob(".*"))


def test_what_is_read_is_what_was_added(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = [(name, rng.random((2, *FEATURES)).astype(np.float16)) for name in "pqrst"]
    store = FeatureStore(tmp_path, 2)
    store.add(items[:3])
    store.add(items[3:])
    for each in (store, FeatureStore(tmp_path, 2)):
        for name, features in items:
            for view in (0, 1):
                np.testing.assert_array_equal(each.read(name, view), features[view])
        assert "p" in each and "u" not in each
