import errno
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from writers import png, write_parquet

from cnn.data.decoding import MAX_BYTES
from cnn.data.sources import open_source
from cnn.data.sources.parquet import _rows_at_a_time
from cnn.support.errors import UserError


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


# ---- bounds

PEAK = """
import resource, sys
from cnn.data.sources import open_source
source = open_source(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sizes = [len(image.data) for image in source.images()]
print(len(sizes), sum(sizes), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_rows_of_huge_images_are_read_one_at_a_time(tmp_path: Path) -> None:
    size, count = 50_000_000, 16
    path = write_parquet(tmp_path / "a.parquet", pa.array([0] * count), [bytes(size)] * count)
    pq.write_table(pq.read_table(path), path, compression="zstd")  # in one row group, in which it is kept once
    ended = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows, total, peak = map(int, ended.stdout.split())
    assert (rows, total) == (count, count * size)
    assert peak < 10 * size


def metadata_of(size: int, rows: int = 100) -> Any:
    """Metadata of a file with a small row group and one of this size."""
    groups = [SimpleNamespace(num_rows=rows, total_byte_size=each) for each in (size, min(size, 10))]
    return SimpleNamespace(num_row_groups=2, row_group=groups.__getitem__)


@pytest.mark.parametrize(("size", "expected"), [(10, 16), (1 << 23, 16), (1 << 24, 8), (1 << 26, 2), (1 << 30, 1)])
def test_rows_at_a_time_are_bounded_by_bytes(size: int, expected: int) -> None:
    assert _rows_at_a_time(Path(), metadata_of(size)) == expected


def test_images_that_must_be_too_large_are_refused() -> None:
    with pytest.raises(UserError, match=r"b\.parquet: expected images of at most 128 MB, found 3 of 768 MB together"):
        _rows_at_a_time(Path("b.parquet"), metadata_of(6 * MAX_BYTES + 1, rows=3))
    assert _rows_at_a_time(Path(), metadata_of(2 * MAX_BYTES, rows=1)) == 1  # it is cut off


def test_longer_images_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn.data.sources.parquet.MAX_BYTES", 1000)
    path = write_parquet(tmp_path / "a.parquet", pa.array([0, 1]), [bytes(1500), b"x"])
    assert [len(image.data) for image in open_source(path).images()] == [1000, 1]


# ---- damage

LABELS = [
    (pa.array([0, 1, 2] * 5), ["a", "b", "c"]),
    (pa.array(["cat", "dog", None] * 5), None),
    (pa.array(["cat", "dog", "x"] * 5).dictionary_encode(), None),
]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.sampled_from(LABELS), rng=st.randoms(use_true_random=False))
def test_damage_is_refused_or_read(
    labels: tuple[pa.Array, list[str] | None], rng: random.Random, tmp_path: Path
) -> None:
    path = write_parquet(tmp_path / "a.parquet", labels[0], [png(number) for number in range(15)], labels[1])
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for _ in range(rng.randint(1, 4)):
        data[rng.choice([rng.randrange(len(data)), rng.randrange(footer, len(data))])] = rng.randrange(256)
    path.write_bytes(data)
    for read in (lambda: open_source(path).counts(), lambda: list(open_source(path).images())):
        with suppress(UserError):
            read()
