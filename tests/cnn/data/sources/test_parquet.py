import errno
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from writers import png, write_parquet

from cnn.data.sources import open_source
from cnn.support.errors import UserError


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (pa.array([0, 1, -1]), ["cat", "dog"], ["cat", "dog", None]),
        (pa.array([0, 1, 5], pa.int32()), None, ["class 0", "class 1", "class 5"]),
        (pa.array(["cat", "dog", None]), None, ["cat", "dog", None]),
        (pa.array(["cat", "dog", "cat"]).dictionary_encode(), None, ["cat", "dog", "cat"]),
    ],
)
def test_labels_are_indices_or_names(
    labels: pa.Array, names: list[str] | None, expected: list[str], tmp_path: Path
) -> None:
    found = list(open_source(write_parquet(tmp_path / "a.parquet", labels, [b"1", b"2", None], names)).images())
    assert [image.label for image in found] == expected
    assert [image.data for image in found] == [b"1", b"2", b""]
    assert [image.name for image in found] == [f"a.parquet row {number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("columns", [{"text": ["a"]}, {"image": [b"raw"], "label": [0]}, {"image": [{"bytes": b""}]}])
def test_other_columns_are_refused(columns: dict[str, list[object]], tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: expected the columns image .* and label"):
        list(open_source(tmp_path).images())


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"PAR1", lambda data: b""])
def test_damaged_parquet_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", pa.array([0]), [png(0)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.parquet: expected a whole Parquet file"):
        list(open_source(path).images())


@pytest.mark.parametrize("error", [MemoryError(), pa.ArrowMemoryError("malloc of size 64 failed")], ids=repr)
def test_no_memory_is_not_damage(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(write_parquet(tmp_path / "a.parquet", pa.array([0]), [png(0)]))

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(MemoryError):
        list(source.images())
    error = OSError(errno.EMFILE, "Too many open files")
    with pytest.raises(UserError, match=r"expected to read it, found Too many open files"):
        list(source.images())


def test_files_without_a_split_do_not_mix(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pa.array([0]), [png(0)])
    write_parquet(tmp_path / "more.parquet", pa.array([0]), [png(1)])
    with pytest.raises(UserError, match=r"more\.parquet"):
        list(open_source(tmp_path).images())


NAMED = {
    "folders": ("default/train/0000.parquet", "default/test/0000.parquet"),
    "folders at the top": ("train/0000.parquet", "train/0001.parquet", "test/0000.parquet"),
    "shards": (
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "data/test-00000-of-00001.parquet",
    ),
    "names": ("beans-train.parquet", "beans-test.parquet"),
    "numbers": ("train_1.parquet", "test1.parquet"),
    "both": ("Train/x_train.parquet", "TEST/x.test.parquet"),
    "parts": ("train/part1/a.parquet", "train/part2/a.parquet", "test/part1/a.parquet"),
}


@pytest.mark.parametrize("case", NAMED)
def test_folders_and_names_hold_the_split(case: str, tmp_path: Path) -> None:
    for number, name in enumerate(NAMED[case]):
        write_parquet(tmp_path / name, pa.array([0, 1]), [png(number), png(number + 100)])
    source = open_source(tmp_path)
    train = [name for name in NAMED[case] if "train" in name.lower()]
    assert {image.split for image in source.images()} == {"train", "test"}
    assert source.counts() == {
        (split, f"class {label}"): count
        for split, count in (("train", len(train)), ("test", len(NAMED[case]) - len(train)))
        for label in (0, 1)
    }
    (note,) = source.notes()
    assert note.startswith(f"Train is {train[0]}") and ", test is " in note
    assert len({image.name for image in source.images()}) == source.counts().total()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train.parquet", "train/test.parquet"), r"train/test\.parquet: expected a name, .* found test and train"),
        (("train.parquet", "train_test.parquet"), r"train_test\.parquet: .* found none"),
        (("a/train.parquet", "b/train.parquet"), "found splits in several folders, such as a and b: name one"),
        (("train.parquet", "b/test.parquet"), r"found splits in several folders, such as \. and b"),
    ],
)
def test_unclear_splits_are_refused(names: tuple[str, ...], words: str, tmp_path: Path) -> None:
    for number, name in enumerate(names):
        write_parquet(tmp_path / name, pa.array([0]), [png(number)])
    with pytest.raises(UserError, match=words):
        open_source(tmp_path).counts()


def test_what_lies_beside_is_said(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", pa.array([0, 1]), [png(0), png(1)])
    for name in ("old.rec", "photos.zip", "README.md", "assets/logo.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert open_source(tmp_path).notes() == ("Not read, because a source is of one kind: old.rec and 1 more.",)
