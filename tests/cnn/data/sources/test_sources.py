"""What holds for every format."""

import os
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from writers import CLASSES, Files, labelled_files, png, write_folder, write_parquet, write_records, write_zip

from cnn.data.sources import FORMATS, Source, open_source
from cnn.data.sources.folders import FolderSource
from cnn.data.sources.parquet import ParquetSource
from cnn.data.sources.records import RecordSource
from cnn.data.sources.zips import ZipSource
from cnn.support.errors import UserError
from cnn.support.listing import visible_files


def as_folder(place: Path, files: Files) -> Path:
    return write_folder(place / "photos", files)


def as_wrapped_folder(place: Path, files: Files) -> Path:
    write_folder(place / "photos/inner/most", {**files, ".DS_Store": b"", "__MACOSX/train/hotdog/._1.png": b""})
    return place / "photos"


def as_zip(place: Path, files: Files) -> Path:
    return write_zip(place / "photos.zip", files)


def as_windows_zip(place: Path, files: Files) -> Path:
    files = {"photos\\" + name.replace("/", "\\"): data for name, data in files.items()}
    return write_zip(place / "photos.ZIP", files)


def as_parquet(place: Path, files: Files) -> Path:
    for split in {name.split("/")[0] for name in files}:
        part = {name: data for name, data in files.items() if name.startswith(split)}
        labels = pa.array([CLASSES.index(name.split("/")[1]) for name in part])
        write_parquet(place / f"data/{split}-00000-of-00001.parquet", labels, list(part.values()), CLASSES)
    return place / "data"


def as_records(place: Path, files: Files) -> Path:
    for split in ("train", "validation"):
        part = [name for name in files if name.startswith(split)]
        records = [(1 - CLASSES.index(name.split("/")[1]), files[name]) for name in part]
        write_records(place / f"records/not_hotdog_{split}-0123.rec", records)
    return place / "records"


Form = Callable[[Path, Files], Path]
FORMS: dict[Form, type[Source]] = {
    as_folder: FolderSource,
    as_wrapped_folder: FolderSource,
    as_zip: ZipSource,
    as_windows_zip: ZipSource,
    as_parquet: ParquetSource,
    as_records: RecordSource,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_images(form: Form, tmp_path: Path) -> None:
    splits = ("train", "validation") if form is as_records else ("train", "validation", "test")
    files = labelled_files(*splits, count=2)
    source = open_source(form(tmp_path, files))
    assert type(source) is FORMS[form]
    assert type(source) in FORMATS
    counts, found = source.counts(), list(source.images())
    expected = Counter((*name.split("/")[:2], data) for name, data in files.items())
    assert Counter((image.split, image.label, image.data) for image in found) == expected
    assert [image.split for image in found] == [split for split in splits[::-1] for _ in range(4)]
    assert counts == Counter((image.split, image.label) for image in found)
    assert len({image.name for image in found}) == len(found)
    assert [replace(image, data=b"") for image in source.listing()] == [replace(image, data=b"") for image in found]
    assert (list(source.images()), source.counts()) == (found, counts)
    for size in (1, 3, len(found)):
        spans = [(start, start + size) for start in range(0, len(found), size)]
        assert [image for span in spans for image in source.images(*span)] == found
        assert list(source.images(size)) == found[size:]
    assert source.caveats() == ()


@pytest.mark.parametrize("form", [as_folder, as_zip])
def test_names_decide_the_order(form: Form, tmp_path: Path) -> None:
    files = {f"{label}/{n}.png": png(n) for n in (2, 1, 3) for label in ("b", "a")}
    found = list(open_source(form(tmp_path, files)).images())
    assert [image.name for image in found] == sorted(files)
    assert {image.split for image in found} == {None}


@pytest.mark.parametrize("form", [as_folder, as_zip, as_parquet])
def test_a_lone_split_is_no_split(form: Form, tmp_path: Path) -> None:
    source = open_source(form(tmp_path, labelled_files("train", count=2)))
    assert {image.split for image in source.images()} == {None}
    assert {split for split, _ in source.counts()} == {None}


@pytest.mark.parametrize(
    ("name", "found"), [("missing", "nothing"), ("empty", "empty"), ("notes.txt", ".txt"), ("train.rec", ".rec")]
)
def test_no_source_is_one_sentence(name: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "empty/deeper").mkdir(parents=True)
    (tmp_path / "empty/.hidden.png").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "train.rec").touch()
    with pytest.raises(UserError) as error:
        open_source(str(tmp_path / name))
    message = str(error.value)
    assert message.startswith(f"{tmp_path / name}: expected ")
    assert found in message.split("found")[1]
    assert "\n" not in message


@pytest.mark.parametrize("form", [as_folder, as_zip, as_parquet, as_records])
def test_a_vanished_source_is_one_sentence(form: Form, tmp_path: Path) -> None:
    path = form(tmp_path, labelled_files("train", "validation", count=2))
    source = open_source(path)
    path.rename(tmp_path / "moved")
    for read in (lambda: list(source.images()), source.counts):
        with pytest.raises(UserError, match="expected to read it, found No such file") as error:
            read()
        assert str(path) in str(error.value)


def test_a_broken_link_is_one_sentence(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a/1.png": png(1), "b/2.png": png(2)})
    (tmp_path / "b/3.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"b/3\.png: expected to read it, found No such file"):
        list(open_source(tmp_path).images())


def test_hidden_and_system_files_are_skipped(tmp_path: Path) -> None:
    files = {f"a/{name}": b"" for name in (".DS_Store", "Thumbs.db", "._1.png", ".cache/x.png")}
    write_folder(tmp_path, {**files, "__MACOSX/a/1.png": b"", "a/1.png": b"a", "b/notes.txt": b"b"})
    assert [image.name for image in open_source(tmp_path).images()] == ["a/1.png", "b/notes.txt"]
    assert visible_files(tmp_path) == ["a/1.png", "b/notes.txt"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_folder(tmp_path, {"elsewhere/1.png": png(1), "photos/b/2.png": png(2)})
    (tmp_path / "photos/a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/b/up").symlink_to(tmp_path / "photos")
    assert [image.name for image in open_source(tmp_path / "photos").images()] == ["a/1.png", "b/2.png"]


def test_names_become_printable(tmp_path: Path) -> None:
    for label in (b"caf\xe9", b"tea"):
        (tmp_path / os.fsdecode(label)).mkdir()
        (tmp_path / os.fsdecode(label + b"/\xe9.png")).write_bytes(png(1))
    source = open_source(tmp_path)
    assert [(image.label, image.name) for image in source.images()] == [("caf?", "caf?/?.png"), ("tea", "tea/?.png")]
    assert source.counts() == {(None, "caf?"): 1, (None, "tea"): 1}


@pytest.mark.parametrize("form", [as_folder, as_zip, as_parquet, as_records])
def test_memory_does_not_grow_with_the_images(form: Form, tmp_path: Path) -> None:
    size, count = 100_000, 250
    names = [f"{split}/hotdog/{n}.png" for split in ("train", "validation") for n in range(count // 2)]
    files = {name: bytes([number]) * size for number, name in enumerate(names)}
    path = form(tmp_path, files)
    list(open_source(path).images())
    tracemalloc.start()
    read, in_arrow, before = 0, 0, pa.total_allocated_bytes()
    for image in open_source(path).images():
        read += len(image.data)
        in_arrow = max(in_arrow, pa.total_allocated_bytes() - before)
    in_python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == size * count
    assert in_python + in_arrow < read / 4
