import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn.backend import mx
from cnn.errors import UserError
from cnn.records import read_records, write_records

MAGIC = struct.pack("<I", 0xCED7230A)


def flip(data: bytes, position: int, bits: int = 0xFF) -> bytes:
    return data[:position] + bytes([data[position] ^ bits]) + data[position + 1 :]


def with_magic(data: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from([data, data + MAGIC, MAGIC + data + MAGIC + MAGIC, data + b"x" + MAGIC])


@settings(max_examples=25, deadline=None)
@given(records=st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=9).flatmap(with_magic)), min_size=1))
def test_records_are_read_as_mxnet_reads_them(
    records: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("records") / "a.rec"
    write_records(path, records)
    reader, expected = mx.recordio.MXRecordIO(str(path), "r"), []
    while content := reader.read():
        header, data = mx.recordio.unpack(content)
        expected.append((header.label, data))
    assert list(read_records(path)) == expected == records


def test_the_first_of_several_labels_counts(tmp_path: Path) -> None:
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
def test_a_damaged_record_is_an_error(damage: Callable[[bytes], bytes], number: int, tmp_path: Path) -> None:
    path = tmp_path / "train.rec"
    write_records(path, [(1, bytes([65 + n]) * 100) for n in range(4)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"train\.rec: record {number} is damaged"):
        list(read_records(path))


def test_an_empty_record_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.rec").touch()
    with pytest.raises(UserError, match="empty file"):
        list(read_records(tmp_path / "a.rec"))


def test_records_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing() -> Iterator[tuple[int, bytes]]:
        yield 0, b"jpeg"
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_records(tmp_path / "a.rec", failing())
    assert not list(tmp_path.iterdir())
