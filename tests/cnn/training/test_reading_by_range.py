"""Datasets and features in object storage: what is read of them, on a machine that has no working copy."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
from learners import START
from object_storage import BUCKET, Server, another_machine, storage  # noqa: F401

from cnn.data.datasets import REPORT, Dataset, Row, SplitWriter
from cnn.support.errors import TransientError, UserError
from cnn.support.objects import Object
from cnn.support.references import Reference
from cnn.support.remote import local_path
from cnn.training.features import FeatureStore, embed, write_shard

IMAGES, BYTES = 640, 20_000


@pytest.fixture
def dataset(storage: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A dataset of noise that another machine has shared."""
    folder = local_path(f"{BUCKET}/store/datasets/1")
    folder.mkdir(parents=True)
    random, classes = Random(0), ("cat", "dog")
    with SplitWriter(folder / "train.parquet", classes) as writer:
        for number in range(IMAGES):
            writer.add(Row(f"{number:064}", number % 2, f"{number}.jpg", random.randbytes(BYTES)))
    made = Dataset(
        folder=folder, classes=classes, counts={"train": {"cat": IMAGES // 2, "dog": IMAGES // 2}},
        split_origin="", left_out=(), duplicates=(),
    )  # fmt: skip
    (folder / REPORT).write_text(made.model_dump_json(exclude={"folder"}), encoding="utf-8")
    Reference.to(folder).shared()
    another_machine(monkeypatch, tmp_path / "another")
    storage.sent = 0
    return made


def test_ids_and_names_are_read_without_images(dataset: Dataset, storage: Server) -> None:
    far = Dataset.open(local_path(f"{BUCKET}/store/datasets/1"))
    assert far.folder != dataset.folder and not far.folder.exists()
    ids, labels = far.ids_and_labels("train")
    assert ids == [f"{number:064}" for number in range(IMAGES)] and labels.tolist() == [0, 1] * (IMAGES // 2)
    assert far.names("train") == [f"{number}.jpg" for number in range(IMAGES)]
    assert far.digest() == dataset.digest()
    assert storage.sent < 0.05 * IMAGES * BYTES
    assert not far.folder.exists()


def test_rows_are_streamed(dataset: Dataset, storage: Server) -> None:
    far = Dataset.open(local_path(f"{BUCKET}/store/datasets/1"))
    assert next(far.rows("train")) == next(dataset.rows("train"))
    assert storage.sent < 0.3 * IMAGES * BYTES  # the first group of rows, and a block
    assert list(far.rows("train")) == list(dataset.rows("train"))
    assert not far.folder.exists()


VALUES = np.random.default_rng(0).random((2048, 512), np.float32)
IDS = [f"{number:064}" for number in range(len(VALUES))]


@pytest.fixture
def features(storage: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features that two machines have added to at once, as a third one sees them."""
    for number, half in enumerate((slice(0, 1024), slice(1024, 2048))):
        another_machine(monkeypatch, tmp_path / str(number))
        folder = local_path(f"{BUCKET}/store/features/1")
        folder.mkdir(parents=True)
        for begin in range(half.start, half.stop, 256):
            write_shard(folder, list(zip(IDS[begin : begin + 256], VALUES[begin : begin + 256], strict=True)))
    another_machine(monkeypatch, tmp_path / "another")
    storage.sent = 0
    return local_path(f"{BUCKET}/store/features/1")


def test_features_of_other_machines_are_found_by_range(features: Path, storage: Server) -> None:
    store = FeatureStore(features)
    assert all(image_id in store for image_id in IDS)
    assert storage.sent < 0.2 * VALUES.nbytes and not features.exists()
    np.testing.assert_array_equal(store.load(IDS[100:300]), VALUES[100:300])
    assert len(list(features.glob("*.arrow"))) == 2  # only those with these images
    np.testing.assert_array_equal(FeatureStore(features).load(IDS), VALUES)


def test_altered_features_are_deleted(features: Path, storage: Server) -> None:
    folder = Object(f"{BUCKET}/store/features/1")
    shard = FeatureStore(features)._places[IDS[0]][0].name
    content = folder / shard
    found = content.read()
    assert found
    content.put(found[0].replace(VALUES[0].tobytes(), bytes(VALUES[0].nbytes)), "")
    with pytest.raises(UserError, match=r"altered.* run the same command again") as altered:
        FeatureStore(features).load(IDS)
    assert not isinstance(altered.value, TransientError)  # the same step would not find them the next time
    assert shard not in folder.below()
    store = FeatureStore(features)
    assert sum(image_id in store for image_id in IDS) == len(IDS) - 256
    with pytest.raises(UserError, match="features of 256 images are missing; run the same command again"):
        store.load(IDS)


def test_images_are_embedded_once_for_all_machines(
    storage: Server, drawn_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = local_path(f"{BUCKET}/store/features/2")
    assert embed(drawn_dataset, START, folder, splits=("validation",)) == 8
    another_machine(monkeypatch, tmp_path / "another")
    far = local_path(f"{BUCKET}/store/features/2")
    assert embed(drawn_dataset, START, far, splits=("validation",)) == 0
    ids, _ = drawn_dataset.ids_and_labels("validation")
    np.testing.assert_array_equal(FeatureStore(far).load(ids), FeatureStore(folder).load(ids))
