from pathlib import Path

import pytest
from writers import CLASSES, labelled_files, png, write_folder

from cnn.data.sources import open_source


@pytest.mark.parametrize("train", ["train", "Training"])
@pytest.mark.parametrize("validation", ["validation", "VAL", "valid", "dev"])
@pytest.mark.parametrize("test", ["test", "testing", "Eval"])
def test_split_folders_have_many_names(train: str, validation: str, test: str, tmp_path: Path) -> None:
    found = open_source(write_folder(tmp_path, labelled_files(train, validation, test, count=2))).counts()
    assert found == {(split, label): 2 for split in ("train", "validation", "test") for label in CLASSES}


def test_split_names_may_go_on(tmp_path: Path) -> None:
    found = open_source(write_folder(tmp_path, labelled_files("train_set", "test_set", count=2))).counts()
    assert found == {(split, label): 2 for split in ("train", "test") for label in CLASSES}


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    files = {"train/1.png": png(1), "bus/2.png": png(2), "bus/old/3.png": png(3)}
    assert open_source(write_folder(tmp_path, files)).counts() == {(None, "train"): 1, (None, "bus"): 2}


def test_a_class_may_begin_like_a_split(tmp_path: Path) -> None:
    files = {"test tube/blue/1.png": png(1), "beaker/2.png": png(2), "beaker/large/3.png": png(3)}
    assert open_source(write_folder(tmp_path, files)).counts() == {(None, "test tube"): 1, (None, "beaker"): 2}


def test_images_outside_class_folders_have_no_class(tmp_path: Path) -> None:
    files = labelled_files("train", count=2) | {"test/1.png": png(1), "test/2.png": png(2), "readme.txt": b"?"}
    found = open_source(write_folder(tmp_path, files)).counts()
    assert found == {(None, "hotdog"): 2, (None, "not_hotdog"): 2, (None, None): 3}
