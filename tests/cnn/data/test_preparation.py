import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from preparations import names_of, prepared
from writers import CLASSES, Files, encode, labelled_files, noise, png, write_folder

from cnn.data import preparation
from cnn.data.preparation import prepare
from cnn.data.sources import open_source
from cnn.data.sources.folders import FolderSource
from cnn.support.digests import content_digest
from cnn.support.errors import UserError

TEXT = b"no image"


def test_three_splits_stay_as_they_are(tmp_path: Path) -> None:
    files = labelled_files("train", "val", "test", count=5)
    dataset = prepared(tmp_path, files)
    assert dataset.classes == CLASSES
    assert dataset.splits == ("train", "validation", "test")
    assert dataset.counts == {split: {"hotdog": 5, "not_hotdog": 5} for split in dataset.splits}
    assert dataset.split_origin == "Train, validation and test are the source's own."
    assert names_of(dataset) == {name: name.split("/")[0].replace("val", "validation") for name in files}


def test_unsplit_images_are_divided_in_each_class(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, labelled_files("", count=200))
    for label in CLASSES:
        counts = {split: dataset.counts[split][label] for split in dataset.splits}
        assert sum(counts.values()) == 200
        assert 15 <= counts["test"] <= 45  # 30 expected, standard deviation 5
        assert 15 <= counts["validation"] <= 45
    assert dataset.split_origin.startswith("The source has no split: 15% of the images became test and 15% validation")


def test_a_share_of_train_becomes_validation(tmp_path: Path) -> None:
    files = labelled_files("train", "test", count=60)
    dataset = prepared(tmp_path, files)
    in_test = {name for name, split in names_of(dataset).items() if split == "test"}
    assert in_test == {name for name in files if name.startswith("test")}
    assert 10 <= sum(dataset.counts["validation"].values()) <= 40  # 24 of 120 expected
    assert "20% of train became validation" in dataset.split_origin


@pytest.mark.parametrize("size", [3, 20, 1000])
def test_shards_give_the_same_bytes(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = labelled_files("train", "test", count=10)
    first, *_, last = sorted(files)
    files |= {"train/hotdog/text.jpg": TEXT, "notes.txt": TEXT, "train/not_hotdog/copy.png": files[first]}
    source = open_source(write_folder(tmp_path / "photos", files))
    os.mkfifo(tmp_path / "photos" / "train" / "pipe.png")
    labels = tmp_path / "labels.csv"
    labels.write_text(f"file,label\n{last},hotdog\n")
    monkeypatch.setattr(preparation, "_IMAGES_PER_SHARD", size)
    spans = preparation.shards(source)
    assert len(spans) == -(-source.counts().total() // size)
    parts = [tmp_path / f"part {span.start}" for span in spans]
    for span, part in zip(spans, parts, strict=True):
        preparation.read_shard(source, span, part, labels=labels)
    whole, joined = (
        prepare(source, tmp_path / "a", labels=labels),
        prepare(source, tmp_path / "b", parts=parts, labels=labels),
    )
    assert content_digest(whole.folder) == content_digest(joined.folder)
    assert {each.name for each in whole.left_out} >= {"train/hotdog/text.jpg", "notes.txt", "train/pipe.png"}
    assert whole.conflicts


class Halved(FolderSource):
    validation_share = 0.5


def test_the_source_decides_the_validation_share(tmp_path: Path) -> None:
    source = Halved(write_folder(tmp_path / "photos", labelled_files("train", "test", count=60)))
    halved, given_ = prepare(source, tmp_path / "a"), prepare(source, tmp_path / "b", validation_share=0.1)
    assert 40 <= sum(halved.counts["validation"].values()) <= 80  # 60 of 120 expected, standard deviation 5.5
    assert "50% of train became validation" in halved.split_origin
    assert 2 <= sum(given_.counts["validation"].values()) <= 25  # 12 expected, standard deviation 3.3
    assert "10% of train became validation" in given_.split_origin


def test_test_images_can_validate(tmp_path: Path) -> None:
    files = labelled_files("train", "test", count=12) | {"validation/loose.png": png(1000)}
    dataset = prepared(tmp_path, files, test_as_validation=True)
    assert dataset.splits == ("train", "validation")
    assert {name for name, split in names_of(dataset).items() if split == "validation"} == {
        name for name in files if name.startswith("test/")
    }
    assert [each.name for each in dataset.left_out] == ["validation/loose.png"]
    assert dataset.split_origin == "Train is the source's own."
    assert len(dataset.caveats) == 1 and "test images served as validation" in dataset.caveats[0]


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("train", "val"), ("",)])
def test_other_sources_keep_their_splits(splits: tuple[str, ...], tmp_path: Path) -> None:
    files = labelled_files(*splits, count=40)
    dataset = prepared(tmp_path, files, test_as_validation=True, validation_share=0.9)
    plain = prepare(tmp_path / "photos", tmp_path / "plain")
    assert (names_of(dataset), dataset.caveats) == (names_of(plain), ())


def test_a_missing_test_split_is_reported(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, labelled_files("train", "val", count=12))
    assert dataset.splits == ("train", "validation")
    assert "no test figures" in dataset.split_origin
    assert not dataset.path("test").exists()


def test_a_class_without_test_images_is_a_caveat(tmp_path: Path) -> None:
    files = labelled_files("train", "test", count=12)
    files = {name: data for name, data in files.items() if not name.startswith("test/hotdog")}
    assert prepared(tmp_path, files).caveats == ("No test image shows hotdog, so test figures say little: add images.",)


@settings(max_examples=8, deadline=None)
@given(
    added=st.dictionaries(st.integers(1000, 1050), st.sampled_from(CLASSES), max_size=15),
    has_test=st.booleans(),
)
def test_added_images_move_no_other(
    added: dict[int, str], has_test: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("splits")
    files = labelled_files(*(("train", "test") if has_test else ("",)), count=24)
    before = names_of(prepare(write_folder(place / "photos", files), place / "before"))
    parts = ["train/", "test/"] if has_test else [""]
    more = {f"{parts[seed % len(parts)]}{label}/0{seed}.png": png(seed) for seed, label in added.items()}
    after = names_of(prepare(write_folder(place / "photos", more), place / "after"))
    assert {name: after[name] for name in before} == before
    assert after.keys() == files.keys() | more.keys()


# ---- what is left out


def test_unusable_files_are_listed(tmp_path: Path) -> None:
    cut = encode(Image.fromarray(noise(0)).resize((64, 48)), "JPEG")[:600]
    files = labelled_files("train", "val", count=12)
    files |= {"train/notes.txt": TEXT, "train/hotdog/text.jpg": TEXT, "train/hotdog/cut.jpg": cut}
    dataset = prepared(tmp_path, files)
    left_out = {item.name: item.reason for item in dataset.left_out}
    assert left_out.pop("train/notes.txt") == "the source names no class for it"
    assert left_out.pop("train/hotdog/text.jpg") == "not an image"
    assert left_out.pop("train/hotdog/cut.jpg").startswith("damaged (")
    assert not left_out
    assert dataset.counts["train"] == {"hotdog": 12, "not_hotdog": 12}


def test_duplicates_stay_in_the_untouched_split(tmp_path: Path) -> None:
    files = labelled_files("train", "val", "test", count=12)
    saved_anew = encode(Image.fromarray(noise(500)), "BMP")
    files |= {
        "test/hotdog/a.png": png(500),
        "val/hotdog/b.bmp": saved_anew,
        "train/not_hotdog/c.bmp": saved_anew,
    }
    files |= {"val/hotdog/d.png": png(501), "train/hotdog/e.png": png(501)}
    files |= {"train/hotdog/f.png": png(502), "train/hotdog/g.png": png(502)}
    dataset = prepared(tmp_path, files)
    assert {item.name: item.same_as for item in dataset.duplicates} == {
        "val/hotdog/b.bmp": "test/hotdog/a.png",
        "train/not_hotdog/c.bmp": "test/hotdog/a.png",
        "train/hotdog/e.png": "val/hotdog/d.png",
    }
    splits = names_of(dataset)
    assert splits.keys() == files.keys() - {item.name for item in dataset.duplicates}
    assert splits["train/hotdog/f.png"] == splits["train/hotdog/g.png"] == "train"


@pytest.mark.parametrize("test_as_validation", [False, True])
def test_test_images_leave_train(test_as_validation: bool, tmp_path: Path) -> None:
    files = labelled_files("train", "test", count=24)
    copies = {name.replace("test", "train").replace(".png", "-copy.png"): data for name, data in files.items()}
    copies = {name: data for name, data in copies.items() if data in {files[n] for n in files if n.startswith("test")}}
    dataset = prepared(tmp_path, files | copies, test_as_validation=test_as_validation)
    assert {item.name: item.same_as for item in dataset.duplicates} == {
        name: name.replace("train", "test").replace("-copy", "") for name in copies
    }
    kept = {name for name, split in names_of(dataset).items() if split == dataset.splits[-1]}
    assert kept == {name for name in files if name.startswith("test")}


def test_duplicates_of_one_split_stay_together(tmp_path: Path) -> None:
    files = labelled_files("", count=40)
    copies = {name.replace(".png", "-copy.png"): data for name, data in files.items()}
    dataset = prepared(tmp_path, files | copies)
    splits = names_of(dataset)
    assert not dataset.duplicates
    assert all(splits[name] == splits[name.replace(".png", "-copy.png")] for name in files)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files")], ids=repr)
def test_system_errors_leave_no_image_out(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_folder(tmp_path / "photos", labelled_files("train", "val", count=3))
    open_image, calls = Image.open, iter(range(100))

    def fail_once(*arguments: object, **options: object) -> Image.Image:
        if next(calls) == 5:
            raise error
        return open_image(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", fail_once)
    with pytest.raises(type(error)):
        prepare(source, tmp_path / "dataset")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


# ---- what is written


def test_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    grey = encode(Image.new("L", (30, 20), 99))
    files = {**labelled_files("", count=40), "hotdog/x.jpg": TEXT, "hotdog/grey.png": grey}
    first = prepare(write_folder(tmp_path / "here", files), tmp_path / "first")
    shutil.copytree(tmp_path / "here", tmp_path / "else/where")
    second = prepare(str(tmp_path / "else/where"), str(tmp_path / "deep/second"))
    zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "here")
    third = prepare(open_source(zipped), tmp_path / "first")  # replaces the first
    assert len({content_digest(dataset.folder) for dataset in (first, second, third)}) == 1
    write_folder(tmp_path / "else/where", {"hotdog/y.png": png(999)})
    other = prepare(tmp_path / "else/where", tmp_path / "other")
    assert content_digest(other.folder) != content_digest(first.folder)


def test_the_report_says_what_happened(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, labelled_files("train", "val", count=3) | {"train/hotdog/é.txt": TEXT})
    report = json.loads((tmp_path / "dataset/dataset.json").read_text(encoding="utf-8"))
    assert report["counts"] == dataset.counts
    assert report["left_out"] == [{"name": "train/hotdog/é.txt", "reason": "not an image"}]
    assert "folder" not in report


UNUSABLE: dict[str, tuple[Files, str]] = {
    "no class": ({"1.png": png(1), "2.png": png(2)}, "expected a folder for each class"),
    "no class in the splits": ({"train/1.png": png(1), "test/2.png": png(2)}, "expected a folder for each class"),
    "one class": ({f"hotdog/{n}.png": png(n) for n in range(9)}, "only one, 'hotdog'"),
    "nothing but text": ({"a/1.jpg": TEXT, "b/2.jpg": TEXT}, "2 left out, such as a/1.jpg: not an image"),
    "no train": (labelled_files("val", "test", count=3), "found only test and validation"),
    "no validation image": (
        {**labelled_files("train", "val", count=3), "train/soup/1.png": png(800)},
        "class 'soup' has no image for validation.* found 1 for train: add some to its validation images",
    ),
    "no train image": (
        {**labelled_files("train", "val", count=3), "val/soup/1.png": png(800)},
        "class 'soup' has no image for train",
    ),
    "one of a class": (
        {"a/1.png": png(1), "b/2.png": png(2)},
        "'a' has no image for validation.* add more images of 'a'",
    ),
    "two of a class": (
        {**labelled_files("", count=3), "soup/1.png": png(800), "soup/2.png": png(801)},
        "'soup' has no image for test; .* found 1 for train, 1 for validation: add more images of 'soup'",
    ),
    "one in train": (
        {**labelled_files("train", "test", count=3), "train/soup/1.png": png(800)},
        "'soup' has no image for validation",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_refusal_leaves_nothing_behind(case: str, tmp_path: Path) -> None:
    files, words = UNUSABLE[case]
    source = write_folder(tmp_path / "photos", files)
    good = write_folder(tmp_path / "good", labelled_files("", count=40))
    dataset = prepare(good, tmp_path / "store/dataset")
    digest = content_digest(dataset.folder)
    for folder in ("dataset", "new"):
        with pytest.raises(UserError, match=words) as error:
            prepare(source, tmp_path / "store" / folder)
        assert str(error.value).startswith(str(source))
        assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["dataset"]
    assert content_digest(dataset.folder) == digest
