"""What preparing says of a source, and sources that are unusual in small ways."""

import os
from pathlib import Path

import pytest
from PIL import Image
from preparations import names_of, prepared
from writers import CLASSES, encode, labelled_files, noise, png, write_folder

from cnn.data.preparation import prepare
from cnn.data.sample import draw
from cnn.data.sources import open_source
from cnn.support.digests import content_digest
from cnn.support.store import keyed_folder


def test_what_was_understood_is_said_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "cnn")
    files = labelled_files("seg_train/seg_train", "seg_test/seg_test", count=12) | {"seg_pred/seg_pred/1.png": png(900)}
    dataset = prepared(tmp_path, files)
    (said, *others) = [record.getMessage() for record in caplog.records if record.name.startswith("cnn.data")]
    assert said.startswith(f"Classes: hotdog, not_hotdog. Images: {sum(dataset.counts['train'].values())} for train, ")
    assert "24 for test. Train and test are the source's own; 20% of train became validation" in said
    assert "Train is seg_train/seg_train, test is seg_test/seg_test." in said
    assert "Left out: seg_pred, neither a split nor a class." in said
    assert dataset.notes == open_source(tmp_path / "photos").notes() and len(dataset.notes) == 2
    assert others == ["Images left out: 1, such as seg_pred/seg_pred/1.png: neither a split nor a class."]


def test_pipes_are_left_out_and_listed(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", labelled_files("", count=12))
    os.mkfifo(tmp_path / "photos/hotdog/pipe.png")
    (tmp_path / "photos/hotdog/zero.png").symlink_to("/dev/zero")
    dataset = prepare(tmp_path / "photos", tmp_path / "dataset")
    assert {each.name: each.reason for each in dataset.left_out} == {
        "hotdog/pipe.png": "a named pipe, not a file",
        "hotdog/zero.png": "a device, not a file",
    }
    assert sum(dataset.counts["train"].values()) >= 12


def test_one_image_with_two_labels_is_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = Image.fromarray(draw("hotdog", 0, 1))
    files = labelled_files("", count=12) | {
        "hotdog/x.png": png(900),
        "not_hotdog/y.bmp": encode(Image.fromarray(noise(900)), "BMP"),
        "hotdog/near.png": encode(drawn),
        "not_hotdog/near.jpg": encode(drawn, "JPEG", quality=50),
    }
    dataset = prepared(tmp_path, files)
    assert [(each.name, each.label, each.same_as, each.other_label, each.is_exact) for each in dataset.conflicts] == [
        ("not_hotdog/y.bmp", "not_hotdog", "hotdog/x.png", "hotdog", True),
        ("not_hotdog/near.jpg", "not_hotdog", "hotdog/near.png", "hotdog", False),
    ]
    assert {each.name: each.reason for each in dataset.left_out} == {
        "hotdog/x.png": "the same image is also labelled 'not_hotdog' (not_hotdog/y.bmp)",
        "not_hotdog/y.bmp": "the same image is also labelled 'hotdog' (hotdog/x.png)",
    }
    assert names_of(dataset).keys() == files.keys() - {"hotdog/x.png", "not_hotdog/y.bmp"}
    assert "Images like one of another class: 2, such as not_hotdog/y.bmp (not_hotdog) and hotdog/x.png (hotdog)" in (
        caplog.text
    )


@pytest.mark.parametrize("count", [3, 5, 12])
@pytest.mark.parametrize("first", range(0, 500, 50))
def test_a_small_class_has_an_image_in_each_split(count: int, first: int, tmp_path: Path) -> None:
    files = {f"{label}/{n}.png": png(first + n) for label, n in zip("ab" * count, range(2 * count), strict=True)}
    dataset = prepared(tmp_path, files)
    assert dataset.splits == ("train", "validation", "test")
    assert all(count for counts in dataset.counts.values() for count in counts.values())
    assert names_of(dataset).keys() == files.keys()


def test_a_store_and_models_among_the_photos_change_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second night reads what the first one read, and its digest is the same."""
    caplog.set_level("INFO", "cnn")
    photos = write_folder(tmp_path / "photos", labelled_files("", count=12))
    datasets, digests = [], [content_digest(photos)]
    for store in (photos, photos / "store"):
        for night in range(2):
            folder = keyed_folder(store, "datasets", f"{night:016}", (), [])
            datasets.append(prepare(photos, folder))
            write_folder(
                photos / "artifacts/photos", {"champion.json": b"{}", "v0001/1.png": png(7), "v0001/2.png": png(8)}
            )
            digests.append(content_digest(photos))
    assert len(set(digests)) == 1
    assert len({dataset.digest() for dataset in datasets}) == 1
    assert {dataset.classes for dataset in datasets} == {CLASSES}
    assert not any(dataset.left_out or dataset.notes for dataset in datasets)
    assert "Not read: datasets, a cache, as its CACHEDIR.TAG says." in caplog.text
    assert "Not read: artifacts/photos, a model that was published." in caplog.text
