"""Trees of folders as people have them: understood, or refused with what was found and what is expected."""

import unicodedata
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from writers import CLASSES, labelled_files, png, write_folder

from cnn.data.sources import open_source
from cnn.data.sources.layout import LayoutError, read_layout, split_of
from cnn.support.errors import UserError

WORDS = {
    "train": ("train", "Training", "TRAIN"),
    "validation": ("validation", "VAL", "valid", "validate", "dev"),
    "test": ("test", "testing", "Eval", "holdout"),
}
FORMS = ("{}", "{}_set", "{}1", "seg_{}", "images-{}", "{} data", "my.{}.2024")


@pytest.mark.parametrize("train", WORDS["train"])
@pytest.mark.parametrize("validation", WORDS["validation"])
@pytest.mark.parametrize("test", WORDS["test"])
def test_split_folders_have_many_names(train: str, validation: str, test: str, tmp_path: Path) -> None:
    found = open_source(write_folder(tmp_path, labelled_files(train, validation, test, count=2))).counts()
    assert found == {(split, label): 2 for split in ("train", "validation", "test") for label in CLASSES}


#: Number of images of each (split, class).
Counts = Mapping[tuple[Any, str], int]


def tree(*folders: str, count: int = 2) -> list[str]:
    """Names of so many images in each folder."""
    return [f"{folder}/{number}.png" for folder in folders for number in range(count)]


def understood(names: list[str]) -> Counts:
    return Counter((file.split, file.label) for file in read_layout(names).files if file.label is not None)


@pytest.mark.parametrize("wrapping", ["", "dataset/", "data/photos/"])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_words_in_names_are_splits(form: str, wrapped: bool, wrapping: str) -> None:
    places = {split: form.format(words[0]) for split, words in WORDS.items()}
    places = {split: f"{name}/{name}" if wrapped else name for split, name in places.items()}
    names = tree(*(f"{wrapping}{place}/{label}" for place in places.values() for label in CLASSES))
    assert understood(names) == {(split, label): 2 for split in WORDS for label in CLASSES}
    (note,) = read_layout(names).notes
    assert all(f"{split} is {wrapping}{place}" in note.replace("Train", "train") for split, place in places.items())


SPLIT = {(split, label): 2 for split in ("test", "train") for label in "ab"}
PLAIN = {(None, "a"): 2, (None, "b"): 2}
UNDERSTOOD: dict[str, tuple[list[str], Counts]] = {
    "a class named as a split": (tree("train", "bus", "bus/old"), {(None, "bus"): 4, (None, "train"): 2}),
    "all splits' words as classes": (
        tree("test tube", "training shoe"),
        {(None, "test tube"): 2, (None, "training shoe"): 2},
    ),
    "a class that begins so": (
        tree("test tube/blue", "beaker", "beaker/l"),
        {(None, "test tube"): 2, (None, "beaker"): 4},
    ),
    "no split's words": (
        tree("contest", "trains", "valley"),
        {(None, "contest"): 2, (None, "trains"): 2, (None, "valley"): 2},
    ),
    "valid and invalid": (tree("valid", "invalid"), {(None, "valid"): 2, (None, "invalid"): 2}),
    "unlabelled test": (tree("train/a", "train/b", "test"), PLAIN),
    "unlabelled test, wrapped": (tree("train/a", "train/b", "test/test"), PLAIN),
    "unlabelled test in a neutral folder": (tree("train/a/images", "train/b/images", "test/images"), PLAIN),
    "several neutral words": (tree("training_data/a", "training_data/b", "test_images/a", "test_images/b"), SPLIT),
    "by key and value": (tree("split=train/a", "split=train/b", "split=test/a", "split=test/b"), SPLIT),
    "other files of a known set": (
        tree("f/Training/a", "f/Training/b", "f/Test/a", "f/Test/b", "f/test-multiple_x", "f/papers"),
        SPLIT,
    ),
    "a class in one split's case": (tree("Train/a", "Train/b", "TEST/a", "TEST/b"), SPLIT),
    "unlabelled test beside validation": (
        tree("train/a", "train/b", "val/a", "val/b", "test"),
        {("train", "a"): 2, ("train", "b"): 2, ("validation", "a"): 2, ("validation", "b"): 2},
    ),
    "a folder to predict": (tree("seg_train/a", "seg_train/b", "seg_test/a", "seg_test/b", "seg_pred"), SPLIT),
    "another folder of classes": (tree("train/a", "train/b", "test/a", "test/b", "raw/a", "raw/b"), SPLIT),
    "splits in classes": (tree("a/train", "a/test", "b/train", "b/test"), SPLIT),
    "other words in one split": (tree("train/a", "train/b", "test_images/a", "test_images/b"), SPLIT),
    "two folders of a split": (
        tree("train_1/a", "train_2/b", "train_2/a", "test/a", "test/b"),
        {**SPLIT, ("train", "a"): 4},
    ),
    "a copy": (tree("a", "b", "flowers/a", "flowers/b"), PLAIN),
    "a copy of a part": (tree("a", "b", "flowers/a"), PLAIN),
    "a class with a part named as another": (tree("a", "b/a", "b"), {(None, "a"): 2, (None, "b"): 4}),
    "a copy of a copy": (tree("x/a", "x/b", "x/x/a", "x/x/b", "x/x/x/a", "x/x/x/b"), PLAIN),
    "a copy of splits": (
        tree(*(f"{at}{split}/{label}" for at in ("", "xray/") for split in ("train", "test") for label in "ab")),
        SPLIT,
    ),
    "a copy in a split": (
        tree(*(f"{split}{at}/{label}" for split in ("train", "test") for at in ("", "/copy") for label in "ab")),
        SPLIT,
    ),
    "labels of another task beside": ([*tree("images/train/a", "images/train/b"), "labels/train/1.txt"], PLAIN),
    "tables and texts beside": ([*tree("a", "b"), "train.csv", "docs/x.pdf", "docs/y.md", "test/list.txt"], PLAIN),
    "deep": (tree("a/" + "x/" * 50 + "y", "b"), PLAIN),
}


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_a_tree_is_understood(case: str) -> None:
    names, expected = UNDERSTOOD[case]
    assert understood(names) == expected
    assert {file.name for file in read_layout(names).files} == set(names)


REFUSED: dict[str, tuple[list[str], str]] = {
    "splits without classes": (tree("train", "test"), r"splits without class folders: test/ \(2 files\), train/"),
    "wrapped splits without classes": (tree("train/train", "test/test"), "splits without class folders"),
    "classes in names": (tree("train_cat", "train_dog", "test_cat", "test_dog"), "splits without class folders"),
    "no classes in a neutral folder": (tree("train/images", "test/images"), "splits without class folders"),
    "train without classes": (tree("train", "test/a", "test/b"), "no class folders in train"),
    "images only": (["1.png", "2.png"], r"no class folders: 1\.png and 1 more files outside folders"),
    "nothing but others": (["photos.zip"], r"no class folders: photos\.zip outside folders"),
    "a class with groups, or a split": (tree("train/steam", "train/diesel", "bus"), "may be splits or classes"),
    "more images, or a copy": ([*tree("a", "b"), "more/a/x.png", "more/b/y.png"], "more with folders named as those"),
    "train around test": ([*tree("a", "b"), *tree("test/a", "test/b")], "test with folders named as those beside it"),
    "splits in one class": (tree("a/train", "a/test", "b"), "splits inside some folders only"),
    "a dataset beside another folder": (tree("x/train/a", "x/test/a", "docs"), "splits inside some folders only"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_tree_is_refused(case: str) -> None:
    names, words = REFUSED[case]
    with pytest.raises(LayoutError, match=words) as error:
        read_layout(names)
    message = str(error.value)
    assert message.startswith("expected a folder for each class") and message.endswith(".") and "\n" not in message


def test_a_refusal_names_the_source(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/1.png": png(1), "test/2.png": png(2)})
    with pytest.raises(UserError, match="expected a folder for each class") as error:
        open_source(tmp_path).counts()
    assert str(error.value).startswith(f"{tmp_path}: ")


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    files = {name: png(1) for name in tree("train/a", "train/b", "test/a", "test/b", "pred", "x/test/c")}
    source = open_source(write_folder(tmp_path, files))
    assert source.notes() == (
        "Train is train, test is test.",
        "Left out: pred, neither a split nor a class.",
        "Left out: x, neither a split nor a class.",
    )
    problems = {image.name: image.problem for image in source.images() if image.problem}
    assert problems == dict.fromkeys(tree("pred", "x/test/c"), "neither a split nor a class")


@pytest.mark.parametrize("kind", [".parquet", ".rec", ".zip", ".bin"])
def test_class_folders_win_over_what_lies_beside_them(kind: str, tmp_path: Path) -> None:
    beside = {f"data_batch_1{kind}": b"?", "README.md": b"?"}
    source = open_source(write_folder(tmp_path, labelled_files("", count=2) | beside))
    assert source.counts() == {(None, "hotdog"): 2, (None, "not_hotdog"): 2, (None, None): 2}
    assert source.notes() == (f"Not read, because a source is of one kind: data_batch_1{kind}.",)


def test_a_name_in_two_spellings_is_one_class(tmp_path: Path) -> None:
    folders = [f"train/{unicodedata.normalize('NFC', 'Brühe')}", f"test/{unicodedata.normalize('NFD', 'Brühe')}"]
    source = open_source(write_folder(tmp_path, {name: png(1) for name in tree(*folders, "train/a", "test/a")}))
    assert source.counts() == {(split, label): 2 for split in ("train", "test") for label in ("Brühe", "a")}
    assert {image.label for image in source.images()} == {"Brühe", "a"}


@pytest.mark.parametrize(("name", "found"), [("x" * 101, "one of 101, 'xxx"), (" ", "an empty one, ' '")])
def test_class_names_are_neither_empty_nor_long(name: str, found: str, tmp_path: Path) -> None:
    source = open_source(write_folder(tmp_path, {f"{name}/1.png": png(1), "b/1.png": png(2)}))
    for read in (source.counts, lambda: list(source.images())):
        with pytest.raises(UserError, match=f"expected class names of 1 to 100 characters, found {found}"):
            read()


def test_control_characters_are_no_part_of_a_class(tmp_path: Path) -> None:
    source = open_source(write_folder(tmp_path, {"a\x1b[31m\nb/1.png": png(1), "c/1.png": png(2)}))
    assert {label for _, label in source.counts()} == {"a[31m b", "c"}


@pytest.mark.parametrize(
    "name", ["Test", "x-test", "test_01", "TestImages", "testset", "9 test 9", "a.TEST.b", "my_test"]
)
def test_a_word_in_a_name_is_a_split(name: str) -> None:
    assert split_of(name) == "test"


@pytest.mark.parametrize(
    "name", ["latest", "contest", "tests1x", "détest", "tester", "train_val", "traintest", "", "42"]
)
def test_no_word_in_a_name_is_no_split(name: str) -> None:
    assert split_of(name) is None
    assert split_of(unicodedata.normalize("NFD", name)) is None


PARTS = st.sampled_from(["train", "test", "val", "a", "b", "x", "seg_train", "seg_test", ".", "", "1"])
NAMES = st.lists(st.lists(PARTS, min_size=1, max_size=5).map(lambda parts: "/".join(parts) + "/1.png"), max_size=12)


@given(names=NAMES)
def test_any_tree_is_understood_or_refused(names: list[str]) -> None:
    names = list(dict.fromkeys(names))
    try:
        layout = read_layout(names)
    except LayoutError as error:
        assert "expected a folder for each class" in str(error)
        return
    assert sorted(file.name for file in layout.files) == sorted(names)
    assert any(file.label for file in layout.files)
    assert all(file.label is not None or file.split is None for file in layout.files)


def test_a_zip_of_many_deep_names_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as archive:
        for label in "ab":
            archive.writestr(f"{label}/{'d/' * 20_000}1.png", png(1))
    assert open_source(tmp_path / "deep.zip").counts() == {(None, "a"): 1, (None, "b"): 1}
