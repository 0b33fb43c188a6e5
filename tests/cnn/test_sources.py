import io
import json
import os
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cnn.errors import UserError
from cnn.records import write_records
from cnn.sources import count_pictures, kind_of, read_pictures

CLASSES = ["hotdog", "not_hotdog"]
Files = dict[str, bytes]


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 5, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def labelled_files(*splits: str) -> Files:
    names = [f"{split}/{label}/{n}.png" for split in splits for label in CLASSES for n in range(2)]
    return {name: png(number) for number, name in enumerate(names)}


def write_folder(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_parquet(path: Path, labels: pa.Array, data: list[bytes | None], names: list[str] | None = None) -> Path:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": item, "path": None} for item in data], image)
    table = pa.table({"image": images, "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="none", row_group_size=10)
    return path


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
        labels = [1 - CLASSES.index(name.split("/")[1]) for name in part]
        data = [files[name] for name in part]
        write_records(place / f"records/not_hotdog_{split}-0123.rec", zip(labels, data, strict=True))
    return place / "records"


@pytest.mark.parametrize("form", [as_folder, as_wrapped_folder, as_zip, as_windows_zip, as_parquet, as_records])
def test_every_form_gives_the_same_pictures(form: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    splits = ("train", "validation") if form is as_records else ("train", "validation", "test")
    files = labelled_files(*splits)
    source = form(tmp_path, files)
    found = list(read_pictures(source))
    expected = Counter((*name.split("/")[:2], data) for name, data in files.items())
    assert Counter((p.split, p.label, p.data) for p in found) == expected
    assert [p.split for p in found] == [split for split in splits[::-1] for _ in range(4)]
    assert count_pictures(source) == Counter((p.split, p.label) for p in found)
    assert len({p.name for p in found}) == len(found)
    assert list(read_pictures(source)) == found


@pytest.mark.parametrize("form", [as_folder, as_zip])
def test_names_decide_the_order(form: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    files = {f"{label}/{n}.png": png(n) for n in (2, 1, 3) for label in ("b", "a")}
    found = list(read_pictures(form(tmp_path, files)))
    assert [p.name for p in found] == sorted(files)
    assert {p.split for p in found} == {None}


@pytest.mark.parametrize("train", ["train", "Training"])
@pytest.mark.parametrize("validation", ["validation", "VAL", "valid", "dev"])
@pytest.mark.parametrize("test", ["test", "testing", "Eval"])
def test_split_folders_have_many_names(train: str, validation: str, test: str, tmp_path: Path) -> None:
    found = count_pictures(write_folder(tmp_path, labelled_files(train, validation, test)))
    assert found == {(split, label): 2 for split in ("train", "validation", "test") for label in CLASSES}


def test_a_lone_split_folder_is_no_split(tmp_path: Path) -> None:
    for form in (as_folder, as_zip, as_parquet):
        assert {p.split for p in read_pictures(form(tmp_path, labelled_files("train")))} == {None}


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    files = {"train/1.png": png(1), "bus/2.png": png(2), "bus/old/3.png": png(3)}
    assert count_pictures(write_folder(tmp_path, files)) == {(None, "train"): 1, (None, "bus"): 2}


def test_pictures_outside_of_class_folders_have_no_class(tmp_path: Path) -> None:
    files = {**labelled_files("train"), "test/1.png": png(1), "test/2.png": png(2), "readme.txt": b"?"}
    found = count_pictures(write_folder(tmp_path, files))
    assert found == {(None, "hotdog"): 2, (None, "not_hotdog"): 2, (None, None): 3}


def test_hidden_and_system_files_are_passed_over(tmp_path: Path) -> None:
    files = {f"a/{name}": b"" for name in (".DS_Store", "Thumbs.db", "._1.png", ".cache/x.png")}
    write_folder(tmp_path, {**files, "__MACOSX/a/1.png": b"", "a/1.png": b"a", "b/notes.txt": b"b"})
    assert [p.name for p in read_pictures(tmp_path)] == ["a/1.png", "b/notes.txt"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_folder(tmp_path, {"elsewhere/1.png": png(1), "photos/b/2.png": png(2)})
    (tmp_path / "photos/a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/b/up").symlink_to(tmp_path / "photos")
    assert [p.name for p in read_pictures(tmp_path / "photos")] == ["a/1.png", "b/2.png"]


def test_names_that_are_not_utf8_become_printable(tmp_path: Path) -> None:
    for label in (b"caf\xe9", b"tea"):
        (tmp_path / os.fsdecode(label)).mkdir()
        (tmp_path / os.fsdecode(label + b"/1.png")).write_bytes(png(1))
    assert [p.label for p in read_pictures(tmp_path)] == ["caf?", "tea"]


def test_a_zip_writes_nothing_outside_of_itself(tmp_path: Path) -> None:
    files = {"../../evil/1.png": png(1), "/etc/2.png": png(2), "a/3.png": png(3), "b/4.png": png(4)}
    place = tmp_path / "x/y"
    place.mkdir(parents=True)
    labels = {p.label for p in read_pictures(write_zip(place / "z.zip", files))}
    assert labels == {"etc", "a", "b"}
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [place / "z.zip"]


def flip(data: bytes, position: int, bits: int = 0xFF) -> bytes:
    return data[:position] + bytes([data[position] ^ bits]) + data[position + 1 :]


def encrypted(data: bytes) -> bytes:
    return flip(data, data.index(b"PK\x01\x02") + 8, bits=1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: len(data) // 2], "damage"),
        (lambda data: b"not a zip", "damage"),
        (lambda data: flip(data, data.index(b"IHDR") + 5), "hotdog/0.png"),
        (encrypted, "encrypted"),
    ],
)
def test_a_damaged_zip_is_an_error(damage: Callable[[bytes], bytes], words: str, tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in labelled_files("train").items():
            archive.writestr(name, data)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=words) as error:
        list(read_pictures(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("large", "small", "training"),
    [
        ("cats_train", "cats_val", "large"),
        ("a_test", "a_train", "small"),
        ("b_test", "b", "small"),
        ("x", "y", "large"),
    ],
)
def test_record_files_find_their_split(large: str, small: str, training: str, tmp_path: Path) -> None:
    write_records(tmp_path / f"{large}.rec", [(n % 2, png(n)) for n in range(4)])
    write_records(tmp_path / f"{small}.rec", [(2, png(9))])
    found = count_pictures(tmp_path)
    of_large, of_small = ("train", "validation") if training == "large" else ("validation", "train")
    assert found == {(of_large, "class 0"): 2, (of_large, "class 1"): 2, (of_small, "class 2"): 1}


def test_one_record_file_is_not_enough(tmp_path: Path) -> None:
    write_records(tmp_path / "train.rec", [(0, png(0))])
    with pytest.raises(UserError, match=r"two \.rec files.*found 1"):
        list(read_pictures(tmp_path))


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (pa.array([0, 1, -1]), ["cat", "dog"], ["cat", "dog", None]),
        (pa.array([0, 1, 5], pa.int32()), None, ["class 0", "class 1", "class 5"]),
        (pa.array(["cat", "dog", None]), None, ["cat", "dog", None]),
        (pa.array(["cat", "dog", "cat"]).dictionary_encode(), None, ["cat", "dog", "cat"]),
    ],
)
def test_parquet_labels(labels: pa.Array, names: list[str] | None, expected: list[str], tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "animals.parquet", labels, [b"1", b"2", None], names)
    found = list(read_pictures(path))
    assert [p.label for p in found] == expected
    assert [p.data for p in found] == [b"1", b"2", b""]


@pytest.mark.parametrize("columns", [{"text": ["a"]}, {"image": [b"raw"], "label": [0]}, {"image": [{"bytes": b""}]}])
def test_parquet_with_other_columns_is_an_error(columns: dict[str, list[object]], tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: expected the columns image .* and label"):
        list(read_pictures(tmp_path))


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"PAR1", lambda data: b""])
def test_damaged_parquet_is_an_error(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", pa.array([0]), [png(0)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.parquet: expected a whole Parquet file"):
        list(read_pictures(path))


def test_parquet_files_with_and_without_a_split_do_not_mix(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pa.array([0]), [png(0)])
    write_parquet(tmp_path / "more.parquet", pa.array([0]), [png(1)])
    with pytest.raises(UserError, match=r"more\.parquet"):
        list(read_pictures(tmp_path))


def test_what_is_no_source_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty/deeper").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("?")
    (tmp_path / "train.rec").touch()
    for name, found in {
        "missing": "nothing",
        "empty": "empty",
        "notes.txt": ".txt",
        "train.rec": ".rec",
    }.items():
        with pytest.raises(UserError) as error:
            kind_of(tmp_path / name)
        message = str(error.value)
        assert message.startswith(f"{tmp_path / name}: expected ")
        assert found in message.split("found")[1]
        assert "\n" not in message


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a/1.png": png(1), "b/2.png": png(2)})
    (tmp_path / "b/3.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"b/3\.png: expected to read it, found No such file"):
        list(read_pictures(tmp_path))


@pytest.mark.parametrize("form", [as_folder, as_zip, as_parquet, as_records])
def test_memory_does_not_grow_with_the_pictures(form: Callable[[Path, Files], Path], tmp_path: Path) -> None:
    size, count = 100_000, 250
    names = [f"{split}/hotdog/{n}.png" for split in ("train", "validation") for n in range(count // 2)]
    files = {name: bytes([number]) * size for number, name in enumerate(names)}
    source = form(tmp_path, files)
    list(read_pictures(source))
    tracemalloc.start()
    read, in_arrow, before = 0, 0, pa.total_allocated_bytes()
    for picture in read_pictures(source):
        read += len(picture.data)
        in_arrow = max(in_arrow, pa.total_allocated_bytes() - before)
    in_python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == size * count
    assert in_python + in_arrow < read / 4
