"""Labelled pictures from whatever the user has, one at a time: folders, a zip, record files, Parquet, CIFAR-10."""

import json
import lzma
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from cnn.cifar import caveat, holds_batches, read_batches
from cnn.errors import UserError
from cnn.files import printable, visible_files
from cnn.layouts import SPLITS, Place, RawPicture, file_by_folders, in_reading_order, split_of
from cnn.records import read_records

__all__ = ["SPLITS", "Kind", "RawPicture", "caveats", "count_pictures", "kind_of", "picture_files", "read_pictures"]

_EXPECTED = (
    "expected a folder of class folders, a .zip of one, a folder with two .rec files, Parquet, "
    "or CIFAR-10's binary batches in a folder or .tar.gz"
)
_IGNORED = ("__macosx", "thumbs.db")
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError)
#: So much of a file is read at most; a picture that goes on is cut, and so found damaged.
_MAX_BYTES = 1 << 27
_ROWS_AT_A_TIME = 16
_COLUMN_TYPES = {
    "image": r"struct<.*bytes: (large_)?binary",
    "label": r"u?int\d|(large_)?string|dictionary<values=(large_)?string",
}

Kind = Literal["folder", "zip", "records", "parquet", "cifar"]


def kind_of(path: Path) -> Kind:
    """What sort of source ``path`` is.

    Raises:
        UserError: nothing is there, or nothing that pictures can be read from.
    """
    with _readable(path):
        if path.is_dir():
            if holds_batches(path):
                return "cifar"
            suffixes = {Path(name).suffix.lower() for name in picture_files(path)}
            if suffixes:
                return "parquet" if ".parquet" in suffixes else "records" if ".rec" in suffixes else "folder"
            raise UserError(f"{path}: {_EXPECTED}, found an empty folder: put pictures into it.")
        if path.is_file() and path.suffix.lower() == ".zip":
            return "zip"
        if path.is_file() and path.suffix.lower() == ".parquet":
            return "parquet"
        if path.is_file() and path.name.lower().endswith((".tar.gz", ".tgz")):
            return "cifar"
        found = f"a {path.suffix} file" if path.exists() else "nothing"
    raise UserError(f"{path}: {_EXPECTED}, found {found}: check the path.")


def read_pictures(path: Path) -> Iterator[RawPicture]:
    """All pictures of a source, one in memory at a time: test, validation, train, and by name inside each.

    So a picture that stands in two splits is met first in the one that must stay untouched. A split that is
    the only one counts as none.

    Raises:
        UserError: the source cannot be read to its end.
    """
    return _read(path, load=True)


def count_pictures(path: Path) -> Counter[tuple[str | None, str | None]]:
    """How many pictures a source has of each (split, class), without decoding them.

    Raises:
        UserError: as `read_pictures`.
    """
    return Counter((picture.split, picture.label) for picture in _read(path, load=False))


def caveats(path: Path) -> tuple[str, ...]:
    """What whoever reads a figure must know about a source: sentences, none for most sources.

    Raises:
        UserError: the source cannot be read.
    """
    with _readable(path):
        sentence = caveat(path) if kind_of(path) == "cifar" else None
    return (sentence,) if sentence else ()


def _read(path: Path, load: bool) -> Iterator[RawPicture]:
    """`read_pictures`; with ``load`` false the data stays empty where that saves time."""
    read = {
        "folder": _read_folder,
        "zip": _read_zip,
        "records": _read_record_files,
        "parquet": _read_parquet,
        "cifar": read_batches,
    }
    with _readable(path):
        yield from read[kind_of(path)](path, load)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever the operating system objects to into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or path}: expected to read it, found {error.strerror or error}: "
            "check that it is there and that you may read it."
        ) from error


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED


def picture_files(folder: Path) -> list[str]:
    """Relative names of all files that may be pictures: neither hidden nor the system's."""
    return [name for name in visible_files(folder) if not any(map(_is_ignored, name.split("/")))]


def _picture(place: Place, file: IO[bytes], size: int, load: bool) -> RawPicture:
    data = file.read(min(size, _MAX_BYTES)) if load else b""
    label = place.label and printable(place.label)
    return RawPicture(printable(place.name), label, place.split, data)


def _read_folder(folder: Path, load: bool) -> Iterator[RawPicture]:
    for place in file_by_folders(picture_files(folder)):
        with (folder / place.name).open("rb") as file:
            yield _picture(place, file, os.fstat(file.fileno()).st_size, load)


def _read_zip(path: Path, load: bool) -> Iterator[RawPicture]:
    """Read the members in place: nothing is extracted, so their names can lead nowhere."""
    name = "its table of contents"
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.replace("\\", "/"): member for member in archive.infolist()}
            if any(member.flag_bits & 1 for member in members.values()):
                raise UserError(f"{path}: expected an open zip, found an encrypted one: unpack it.")
            files = [name for name in members if not name.endswith("/")]
            visible = [name for name in files if not any(map(_is_ignored, name.split("/")))]
            for place in file_by_folders(visible):
                name = place.name
                with archive.open(members[name]) as file:
                    yield _picture(place, file, members[name].file_size, load)
    except _ZIP_ERRORS as error:
        raise UserError(
            f"{path}: expected a whole zip file, found damage ({printable(name)}: {error}): copy or download it again."
        ) from error


def _class_name(index: int, names: list[str]) -> str | None:
    """The name of a class; "class 3" if none of the classes has one; None for a label that means no class.

    >>> _class_name(1, ["cat", "dog"]), _class_name(3, []), _class_name(-1, [])
    ('dog', 'class 3', None)
    """
    if not names and index >= 0:
        return f"class {index}"
    return names[index] if 0 <= index < len(names) else None


def _training_records(files: list[Path]) -> Path:
    """Which of two record files is for training: by name, or else the larger."""
    for words, is_training in ((("train",), True), (("val", "test"), False)):
        named = [file for file in files if any(word in file.name.lower() for word in words)]
        if len(named) == 1:
            return named[0] if is_training else next(file for file in files if file != named[0])
    return max(files, key=lambda file: file.stat().st_size)


def _read_record_files(folder: Path, load: bool) -> Iterator[RawPicture]:
    files = sorted(folder / name for name in picture_files(folder) if name.lower().endswith(".rec"))
    if len(files) != 2:
        raise UserError(
            f"{folder}: expected two .rec files, for training and validation, found {len(files)}: "
            "put exactly these two into a folder."
        )
    # the notebook's files, not_hotdog_train-….rec: 1 is a hotdog
    names = ["not_hotdog", "hotdog"] if all("hotdog" in file.name.lower() for file in files) else []
    training = _training_records(files)
    for file in sorted(files, key=lambda file: file == training):
        for number, (label, data) in enumerate(read_records(file), start=1):
            split = "train" if file == training else "validation"
            name = f"{printable(file.name)} record {number}"
            yield RawPicture(name, _class_name(label, names), split, data)


def _parquet_places(path: Path) -> list[Place]:
    """The Parquet files of a source in reading order, the split by the beginning of the name."""
    names = [path.name]
    if path.is_dir():
        names = [name for name in picture_files(path) if name.lower().endswith(".parquet")]
    places = [Place(split_of(Path(name).name), "", name) for name in names]
    strays = [place.name for place in places if place.split is None]
    if 0 < len(strays) < len(places):
        raise UserError(
            f"{path / strays[0]}: expected a name that begins with train, validation or test, "
            "like those of its neighbours: rename it or move it away."
        )
    return in_reading_order(places)


def _read_parquet(path: Path, load: bool) -> Iterator[RawPicture]:
    for place in _parquet_places(path):
        file = path / place.name if path.is_dir() else path
        try:
            # without pre-buffering, pages and not row groups are in memory
            with pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as table:
                yield from _read_table(table, file, place.split, load)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"{file}: expected a whole Parquet file, found damage ({error}): copy or download it again."
            ) from error


def _class_names(schema: pa.Schema) -> list[str]:
    """What Hugging Face's metadata calls the labels 0, 1, …; empty without such metadata."""
    try:
        return json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError):
        return []


def _read_table(table: pq.ParquetFile, file: Path, split: str | None, load: bool) -> Iterator[RawPicture]:
    """The rows of a table in Hugging Face's image convention: ``image`` struct<bytes, path>, ``label``."""
    schema = table.schema_arrow
    found = {field.name: str(field.type) for field in schema}
    if not all(re.match(pattern, found.get(name, "")) for name, pattern in _COLUMN_TYPES.items()):
        columns = ", ".join(f"{name} ({type_})" for name, type_ in found.items())
        raise UserError(
            f"{file}: expected the columns image (struct<bytes, path>) and label (whole number or string), "
            f"found {columns[:200]}: convert it first."
        )
    names = _class_names(schema)
    batches = table.iter_batches(_ROWS_AT_A_TIME, columns=["image.bytes", "label"] if load else ["label"])
    rows = (row for batch in batches for row in batch.to_pylist())
    for number, row in enumerate(rows, start=1):
        label = _class_name(row["label"], names) if isinstance(row["label"], int) else row["label"]
        image = row.get("image") or {}
        yield RawPicture(f"{printable(file.name)} row {number}", label, split, image.get("bytes") or b"")
