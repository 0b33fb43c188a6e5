"""Kept features: right, compact, added to and repaired."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn.backend import mx
from cnn.datasets import Dataset
from cnn.features import FEATURES, FeatureStore, embed_split, embedding_network
from cnn.networks import Network, initialise, random_parameters, set_parameters
from cnn.pictures import center_view, decode, to_tensor
from cnn.squeezenet import squeezenet

WEIGHTS = random_parameters(seed=1)


CPU = [mx.cpu()]


@pytest.fixture(scope="module")
def network() -> Network:
    return embedding_network(WEIGHTS, CPU)


class Counting:
    """Stands in for the network and counts the views that it is given; padding is not counted, it is all zeros."""

    def __init__(self) -> None:
        self.views = 0

    def __call__(self, batch: Any) -> Any:
        self.views += int((batch.asnumpy().reshape(len(batch), -1).any(1)).sum())
        return mx.nd.zeros((len(batch), *FEATURES))


def test_features_are_the_networks_averaged(drawn_dataset: Dataset, network: Network, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, views=1)
    embed_split(drawn_dataset, "validation", store, network, CPU, seed=0)
    net = initialise(squeezenet(2), 224, [mx.cpu()], seed=0)
    set_parameters(net, WEIGHTS, prefix="features")
    row = next(drawn_dataset.rows("validation"))
    full = net.features(mx.nd.array(to_tensor([center_view(decode(row.data))]))).asnumpy()[0]
    edges = [(int(np.floor(i * 13 / 7)), int(np.ceil((i + 1) * 13 / 7))) for i in range(7)]
    averaged = np.array([[full[:, a:b, c:d].mean((1, 2)) for c, d in edges] for a, b in edges]).transpose(2, 0, 1)
    np.testing.assert_allclose(store.read(row.id, 0), averaged, rtol=2e-3, atol=1e-3 * full.max())


def test_only_what_is_missing_is_embedded(drawn_dataset: Dataset, tmp_path: Path) -> None:
    count = len(set(drawn_dataset.ids_and_labels("train")[0]))
    first, second, third = Counting(), Counting(), Counting()
    assert embed_split(drawn_dataset, "train", FeatureStore(tmp_path, 3), first, CPU, seed=0) == count
    assert first.views == 3 * count
    assert embed_split(drawn_dataset, "train", FeatureStore(tmp_path, 3), second, CPU, seed=0) == 0
    assert second.views == 0
    shard = next(tmp_path.glob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-20] + b"x" * 20)
    assert embed_split(drawn_dataset, "train", FeatureStore(tmp_path, 3), third, CPU, seed=0) == count


def test_views_depend_on_the_picture_and_the_seed_only(
    drawn_dataset: Dataset, network: Network, tmp_path: Path
) -> None:
    stores = {name: FeatureStore(tmp_path / name, 3) for name in ("a", "b", "c")}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        embed_split(drawn_dataset, "validation", stores[name], network, CPU, seed)
    picture = drawn_dataset.ids_and_labels("validation")[0][0]
    for view, same in ((0, True), (1, False), (2, False)):
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
