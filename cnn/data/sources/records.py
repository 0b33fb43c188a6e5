"""MXNet's record files (.rec): images with their labels, one after another.

The format is dmlc-core's ``recordio.h`` (magic number, kind and length, content, padding to 4 bytes) around the
header of ``mxnet.recordio.pack``. It is read here and not by ``MXRecordIO``, which silently joins two records if
the bits that mark a record's parts are damaged, and reserves up to 512 MiB for a damaged length.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from cnn.data.sources.folders import image_files
from cnn.data.sources.source import Source, SourceImage, class_name
from cnn.support.errors import UserError
from cnn.support.files import printable

_SUFFIX = ".rec"
_MAGIC = struct.pack("<I", 0xCED7230A)
_WHOLE, _LAST = 0, 3  # kinds of part; a record that holds the magic number is cut there: 1, 2 …, 3
_IR_HEADER = struct.Struct("<IfQQ")  # flag (number of labels if they are an array), label, id, id2


class RecordSource(Source):
    """A folder with two record files, for training and for validation."""

    @classmethod
    def matches(cls, path: Path, names: Sequence[str]) -> bool:
        return path.is_dir() and any(name.lower().endswith(_SUFFIX) for name in names)

    def _read(self) -> Iterator[SourceImage]:
        files = sorted(self.path / name for name in image_files(self.path) if name.lower().endswith(_SUFFIX))
        if len(files) != 2:
            raise UserError(
                f"{self.path}: expected two .rec files, for training and validation, found {len(files)}: "
                "put exactly these two into a folder."
            )
        # the notebook's files, not_hotdog_train-….rec: 1 is a hotdog
        names = ["not_hotdog", "hotdog"] if all("hotdog" in file.name.lower() for file in files) else []
        training = _training_file(files)
        for file in sorted(files, key=lambda file: file == training):
            split = "train" if file == training else "validation"
            for number, (label, data) in enumerate(read_records(file), start=1):
                yield SourceImage(f"{printable(file.name)} record {number}", class_name(label, names), split, data)


def _training_file(files: list[Path]) -> Path:
    """Which of two record files is for training: the names say it, or else it is the larger one."""
    for words, is_training in ((("train",), True), (("val", "test"), False)):
        named = [file for file in files if any(word in file.name.lower() for word in words)]
        if len(named) == 1:
            return named[0] if is_training else next(file for file in files if file != named[0])
    return max(files, key=lambda file: file.stat().st_size)


def _read_parts(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each part of a record file of ``size`` bytes."""
    while head := file.read(8):
        if len(head) < 8:
            raise ValueError("it ends inside a header")
        kind, length = head[7] >> 5, int.from_bytes(head[4:], "little") & 0x1FFFFFFF
        padded = length + -length % 4
        if head[:4] != _MAGIC:
            raise ValueError("no record begins where one should")
        if padded > size - file.tell():
            raise ValueError("it is longer than what is left of the file")
        yield kind, file.read(padded)[:length]


def _read_contents(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Content of each record, its parts joined."""
    parts: list[bytes] = []
    for kind, part in _read_parts(file, size):
        if kind > _LAST or (kind in (_WHOLE, 1)) != (not parts):
            raise ValueError("its parts are out of order")
        parts.append(part)
        if kind in (_WHOLE, _LAST):
            yield _MAGIC.join(parts)
            parts = []
    if parts:
        raise ValueError("its end is missing")


def _unpack(content: bytes) -> tuple[int, bytes]:
    """Label and image of a record's content.

    >>> _unpack(_IR_HEADER.pack(0, 1.0, 7, 0) + b"jpeg")
    (1, b'jpeg')
    """
    if len(content) < _IR_HEADER.size:
        raise ValueError("it is shorter than its header")
    count, label, _, _ = _IR_HEADER.unpack_from(content)
    start = _IR_HEADER.size + 4 * count
    if count and start <= len(content):
        (label,) = struct.unpack_from("<f", content, _IR_HEADER.size)
    if start > len(content) or not label.is_integer() or label < 0:
        raise ValueError("its label is not the number of a class")
    return int(label), content[start:]


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Label (0, 1, …) and encoded image of each record; the first label where a record has several.

    Raises:
        UserError: a record is damaged or cut off, or there is none. A file that was cut exactly between two
            records looks like a whole one.
    """
    number = 0
    with path.open("rb") as file:
        try:
            for content in _read_contents(file, path.stat().st_size):
                record = _unpack(content)
                number += 1
                yield record
        except ValueError as error:
            raise UserError(
                f"{path}: record {number + 1} is damaged ({error}); expected MXNet records as im2rec writes "
                "them: copy or download the file again."
            ) from error
    if not number:
        raise UserError(f"{path}: expected MXNet records, found an empty file: copy or download it again.")
