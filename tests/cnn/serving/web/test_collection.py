"""Corrections: kept as images of the right class that a training reads, and nothing else is ever written."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from stub_predictor import CLASSES, application, client_of, encoded

from cnn.data.datasets import Dataset
from cnn.data.decoding import pixel_digest
from cnn.data.preparation import prepare
from cnn.data.sample import draw
from cnn.serving.web import collection
from cnn.serving.web.collection import Collection
from cnn.support.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "collected"


@pytest.fixture
def client(tmp_path: Path, folder: Path) -> Iterator[TestClient]:
    with client_of(application(tmp_path, collection=Collection(folder, CLASSES))) as found:
        yield found


def correct(client: TestClient, label: str, image: bytes, name: str = "../../evil\n.php") -> int:
    return client.post("/corrections", data={"label": label}, files={"image": (name, image)}).status_code


def kept(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_an_image_is_kept_by_what_it_shows(client: TestClient, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "at home"
    file = io.BytesIO()
    Image.fromarray(draw("hotdog", 0, 0)).save(file, "JPEG", exif=exif, comment="secret")
    assert correct(client, "hot_dog", file.getvalue()) == 201
    (name,) = kept(folder)
    assert name == f"hot_dog/{pixel_digest(Image.open(file))}.jpg"
    with Image.open(folder / name) as image:
        assert image.format == "JPEG" and not image.getexif() and "comment" not in image.info
        assert np.abs(np.asarray(image, float) - np.asarray(Image.open(file), float)).mean() < 2


def test_the_last_word_counts(client: TestClient, folder: Path) -> None:
    for label in ("hot_dog", "hot_dog", "not_hot_dog"):
        assert correct(client, label, encoded()) == 201
    (name,) = kept(folder)
    assert name.startswith("not_hot_dog/")


@pytest.mark.parametrize("label", ["", ".", "..", "../hot_dog", "hot_dog/..", "hot_dog\0", "other", "HOT_DOG"])
def test_labels_are_classes(client: TestClient, folder: Path, label: str) -> None:
    assert correct(client, label, encoded()) in (400, 422)
    assert kept(folder) == []


def test_what_is_no_image_is_not_kept(client: TestClient, folder: Path) -> None:
    assert correct(client, "hot_dog", b"<?php") == 422
    assert kept(folder) == []


def test_the_folder_is_bounded(client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "MAX_IMAGES", 2)
    statuses = [correct(client, "hot_dog", encoded(size=(8, height))) for height in (8, 9, 10)]
    assert statuses == [201, 201, 507] and len(kept(folder)) == 2
    monkeypatch.setattr(collection, "MAX_IMAGES", 10)
    monkeypatch.setattr(collection, "MAX_BYTES", 10)
    assert correct(client, "hot_dog", encoded(size=(8, 11))) == 507


def test_images_of_the_data_set_around_it_do_not_count(
    client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "MAX_IMAGES", 1)
    (folder / "hot_dog").mkdir()
    for name in ("photo.jpg", f"{64 * 'x'}.jpg"):
        (folder / "hot_dog" / name).write_bytes(b"")
    assert [correct(client, "hot_dog", encoded(size=(8, height))) for height in (8, 9)] == [201, 507]


def test_the_next_training_reads_it(client: TestClient, folder: Path, tmp_path: Path) -> None:
    for index in range(6):
        for label, drawn in zip(CLASSES, ("hotdog", "not_hotdog"), strict=True):
            file = io.BytesIO()
            Image.fromarray(draw(drawn, 1, index)).save(file, "PNG")
            assert correct(client, label, file.getvalue()) == 201
    dataset: Dataset = prepare(folder, tmp_path / "dataset")
    assert dataset.classes == CLASSES
    assert sum(sum(counts.values()) for counts in dataset.counts.values()) == 12


def test_classes_that_are_no_folders_are_refused(tmp_path: Path) -> None:
    for name in ("a/b", "..", ".hidden", ""):
        with pytest.raises(UserError, match="cannot be the name of a folder"):
            Collection(tmp_path / "new", (name, "b"))
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"collect .*: cannot be written"):
        Collection(tmp_path / "file", CLASSES)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
