"""Kept features: right, compact, added to and repaired."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnn.backend import mx
from cnn.datasets import Dataset
from cnn.features import FEATURES, Embedder, FeatureStore, embed_split
from cnn.networks import random_parameters, set_parameters, squeezenet
from cnn.pictures import center_view, decode, to_tensor

WEIGHTS = random_parameters(seed=1)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(WEIGHTS, [mx.cpu()])


class Counting:
    """Counts the crops that are embedded, and embeds none."""

    def __init__(self) -> None:
        self.crops = 0

    def __call__(self, crops: list[Image.Image]) -> np.ndarray:
        self.crops += len(crops)
        return np.zeros((len(crops), *FEATURES), np.float16)


def test_features_are_the_networks_averaged(drawn_dataset: Dataset, embedder: Embedder, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, views=1)
    embed_split(drawn_dataset, "validation", store, embedder, seed=0)
    net = squeezenet(2, [mx.cpu()], seed=0)
    set_parameters(net, WEIGHTS, prefix="features")
    row = next(drawn_dataset.rows("validation"))
    full = net.features(mx.nd.array(to_tensor([center_view(decode(row.data))]))).asnumpy()[0]
    edges = [(int(np.floor(i * 13 / 7)), int(np.ceil((i + 1) * 13 / 7))) for i in range(7)]
    averaged = np.array([[full[:, a:b, c:d].mean((1, 2)) for c, d in edges] for a, b in edges]).transpose(2, 0, 1)
    np.testing.assert_allclose(store.read(row.id, 0), averaged, rtol=2e-3, atol=1e-3 * full.max())


def test_only_what_is_missing_is_embedded(drawn_dataset: Dataset, tmp_path: Path) -> None:
    count = len(set(drawn_dataset.ids_and_labels("train")[0]))
    first, second, third = Counting(), Counting(), Counting()
    assert embed_split(drawn_dataset, "train", FeatureStore(tmp_path, 3), first, seed=0) == count
    assert first.crops == 3 * count
    assert embed_split(drawn_dataset, "train", FeatureStore(tmp_path, 3), second, seed=0) == 0
    assert second.crops == 0
    shard = next(tmp_path.glob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-20] + b"x" * 20)
    assert embed_split(drawn_dataset, "train", FeatureStore(tmp_path, 3), third, seed=0) == count


def test_views_depend_on_the_picture_and_the_seed_only(
    drawn_dataset: Dataset, embedder: Embedder, tmp_path: Path
) -> None:
    stores = {name: FeatureStore(tmp_path / name, 3) for name in ("a", "b", "c")}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        embed_split(drawn_dataset, "validation", stores[name], embedder, seed)
    picture = drawn_dataset.ids_and_labels("validation")[0][0]
    for view, same in ((0, True), (1, True), (2, False)):
        a, b, c = (stores[name].read(picture, view) for name in "abc")
        np.testing.assert_array_equal(a, b)
        assert (a == c).all() == same
    assert (stores["a"].read(picture, 0) != stores["a"].read(picture, 1)).any()


def test_what_is_read_is_what_was_added(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    items = [(name, chance.random((2, *FEATURES)).astype(np.float16)) for name in "pqr"]
    FeatureStore(tmp_path, 2).add(items)
    again = FeatureStore(tmp_path, 2)
    for name, features in items:
        for view in (0, 1):
            np.testing.assert_array_equal(again.read(name, view), features[view])
    assert "s" not in again
