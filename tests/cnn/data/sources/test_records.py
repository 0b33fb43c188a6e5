import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writers import flip, png, write_records

from cnn.data.sources import open_source, records
from cnn.data.sources.records import read_records
from cnn.support.backend import mx
from cnn.support.errors import UserError

MAGIC = struct.pack("<I", 0xCED7230A)


def with_magic(data: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from([data, data + MAGIC, MAGIC + data + MAGIC + MAGIC, data + b"x" + MAGIC])


@settings(max_examples=25, deadline=None)
@given(records=st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=9).flatmap(with_magic)), min_size=1))
def test_records_are_read_as_mxnet_does(
    records: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_records(tmp_path_factory.mktemp("records") / "a.rec", records)
    reader, expected = mx.recordio.MXRecordIO(str(path), "r"), []
    while content := reader.read():
        header, data = mx.recordio.unpack(content)
        expected.append((header.label, data))
    assert list(read_records(path)) == expected == records


def test_the_first_label_counts(tmp_path: Path) -> None:
    writer = mx.recordio.MXRecordIO(str(tmp_path / "a.rec"), "w")
    writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, [3.0, 0.5], 0, 0), b"jpeg"))
    writer.close()
    assert list(read_records(tmp_path / "a.rec")) == [(3, b"jpeg")]


# each record of the file below takes 8 + 24 + 100 bytes
@pytest.mark.parametrize(
    ("damage", "number"),
    [
        (lambda data: data[: 132 * 3 + 5], 4),
        (lambda data: data[:-50], 4),
        (lambda data: flip(data, 132 * 2), 3),
        (lambda data: flip(data, 132 * 2 + 4, bits=0x10), 4),
        (lambda data: flip(data, 132 * 2 + 6), 3),
        (lambda data: flip(data, 132 * 2 + 7, bits=0x20), 3),  # MXRecordIO joins records 3 and 4
        (lambda data: flip(data, 132 * 1 + 8 + 6), 2),  # the label is no whole number
        (lambda data: flip(data, 132 * 1 + 8), 2),  # more labels than bytes
        (lambda data: b"hello, this is a text and no record file", 1),
    ],
)
def test_a_damaged_record_is_refused(damage: Callable[[bytes], bytes], number: int, tmp_path: Path) -> None:
    path = write_records(tmp_path / "train.rec", [(1, bytes([65 + n]) * 100) for n in range(4)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"train\.rec: record {number} is damaged"):
        list(read_records(path))


def test_a_record_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_records(tmp_path / "a.rec", [(0, b"x" * 60), (1, (b"x" * 20 + MAGIC) * 5)])
    assert len(list(read_records(path))) == 2
    monkeypatch.setattr(records, "MAX_BYTES", 100)
    with pytest.raises(UserError, match=r"record 2 is damaged \(it is longer than 100 bytes\)"):
        list(read_records(path))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.rec").touch()
    with pytest.raises(UserError, match="empty file"):
        list(read_records(tmp_path / "a.rec"))


@pytest.mark.parametrize(
    ("large", "small", "splits"),
    [
        ("cats_train", "cats_val", ("train", "validation")),
        ("a_test", "a_train", ("test", "train")),
        ("b_test", "b", ("test", "train")),
        ("retrieval", "retrieval_train", ("validation", "train")),
        ("x", "y", ("train", "validation")),
    ],
)
def test_record_files_find_their_split(large: str, small: str, splits: tuple[str, str], tmp_path: Path) -> None:
    write_records(tmp_path / f"{large}.rec", [(n % 2, png(n)) for n in range(4)])
    write_records(tmp_path / f"{small}.rec", [(2, png(9))])
    found = open_source(tmp_path).counts()
    of_large, of_small = splits
    assert found == {(of_large, "class 0"): 2, (of_large, "class 1"): 2, (of_small, "class 2"): 1}


def test_three_record_files_are_three_splits(tmp_path: Path) -> None:
    for label, split in enumerate(("train", "val", "test")):
        write_records(tmp_path / f"cats_{split}.rec", [(label, png(label))])
    found = open_source(tmp_path)
    assert found.counts() == {("train", "class 0"): 1, ("validation", "class 1"): 1, ("test", "class 2"): 1}
    assert found.notes() == ("Train is cats_train.rec, validation is cats_val.rec, test is cats_test.rec.",)


def test_one_record_file_is_not_enough(tmp_path: Path) -> None:
    write_records(tmp_path / "train.rec", [(0, png(0))])
    with pytest.raises(UserError, match=r"two or three \.rec files.*found 1"):
        list(open_source(tmp_path).images())
