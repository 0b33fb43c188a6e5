"""CIFAR-10's binary version: batches of 10,000 pictures, from a folder or straight out of the .tar.gz.

A record is one byte for the class and 3072 for the picture: a plane of 32 × 32 px for red, green and blue each.
"""

import gzip
import hashlib
import io
import os
import re
import tarfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from PIL import Image

from cnn.catalog import CIFAR10_BATCHES
from cnn.errors import UserError
from cnn.layouts import Place, RawPicture, in_reading_order

#: Names of the classes 0…9.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
#: Pictures in a batch.
PICTURES = 10_000
#: Share of the training pictures that suffices for validation: there are so many of them.
VALIDATION_SHARE = 0.05

_SIDE = 32
_PLANE = _SIDE * _SIDE
_RECORD = 1 + 3 * _PLANE
_FOLDER = "cifar-10-batches-bin"  # what the archive unpacks to
_OFFICIAL_TEST = "test_batch.bin"
_BLOCK = 1 << 20
_TAR_ERRORS = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError)


def _is_batch(name: str) -> bool:
    """Whether a file's name is that of a batch, be it one of CIFAR-10's or not.

    >>> _is_batch("data_batch_7.bin"), _is_batch("test_batch.bin"), _is_batch("data_batch_1")
    (True, True, False)
    """
    return re.fullmatch(r"(data|test)_batch.*\.bin", name) is not None


def _batch_files(folder: Path) -> list[Path]:
    """The batches in a folder, or else those in the folder inside it that the archive unpacks to."""
    here, inside = (
        [file for file in place.glob("*.bin") if _is_batch(file.name)] for place in (folder, folder / _FOLDER)
    )
    return here or inside


def holds_batches(folder: Path) -> bool:
    """Whether batches are in a folder, or in a ``cifar-10-batches-bin`` inside it."""
    return bool(_batch_files(folder))


def _list_members(archive: tarfile.TarFile, stream: gzip.GzipFile) -> list[tarfile.TarInfo]:
    """All members, read to the end: tarfile takes a damaged header for it, and gzip's checksum is behind it."""
    members = archive.getmembers()
    stream.seek(archive.offset)
    while block := stream.read(_BLOCK):
        if block.strip(b"\0"):
            raise tarfile.ReadError("no member begins where one should")
    return members


def _require_harmless(path: Path, member: tarfile.TarInfo) -> None:
    """Refuse what no archive of batches has, and what would do harm to whoever unpacks it."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        found = "whose path leads out of the archive"
    elif not (member.isreg() or member.isdir()):
        found = "which is a link or a device"
    else:
        return
    raise UserError(
        f"{path}: expected an archive of plain files and folders, found {member.name!r}, {found}: "
        "download it again from where you trust."
    )


@contextmanager
def _open_archive(path: Path) -> Iterator[dict[str, IO[bytes]]]:
    """The batches of a .tar.gz by name, read in place: nothing is extracted, so names can lead nowhere."""
    files: dict[str, IO[bytes]] = {}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in _list_members(archive, stream):
                _require_harmless(path, member)
                name = PurePosixPath(member.name).name
                if _is_batch(name) and (file := archive.extractfile(member)):
                    files[name] = file
            yield files
    except _TAR_ERRORS as error:
        raise UserError(
            f"{path}: expected a whole .tar.gz file, found damage ({error}): copy or download it again."
        ) from error


@contextmanager
def _open_batches(path: Path) -> Iterator[dict[str, IO[bytes]]]:
    """The batches of a folder or archive by name, one or more, all of them CIFAR-10's by name."""
    files: dict[str, IO[bytes]]
    with ExitStack() as stack:
        if path.is_dir():
            files = {file.name: stack.enter_context(file.open("rb")) for file in _batch_files(path)}
        else:
            files = stack.enter_context(_open_archive(path))
        if not files:
            raise UserError(
                f"{path}: expected CIFAR-10's binary batches, such as data_batch_1.bin, found none: "
                "take cifar-10-binary.tar.gz, or unpack other pictures into a folder."
            )
        unknown = next((name for name in sorted(files) if name not in CIFAR10_BATCHES), None)
        if unknown is not None:
            known = ", ".join(CIFAR10_BATCHES)
            raise UserError(f"{path}: expected of CIFAR-10 only {known}, found {unknown!r}: move it away.")
        if list(files) == [_OFFICIAL_TEST]:
            raise UserError(f"{path}: expected batches to train on, found only {_OFFICIAL_TEST}: add data_batch_1.bin.")
        yield files


def _file_by_name(names: Collection[str]) -> list[Place]:
    """File batches in reading order: the official test batch is for test, or else the highest-numbered one.

    A batch that is alone has no split.

    >>> [place[::2] for place in _file_by_name(["data_batch_1.bin", "data_batch_2.bin"])]
    [('test', 'data_batch_2.bin'), ('train', 'data_batch_1.bin')]
    >>> _file_by_name(["data_batch_1.bin"])[0].split is None
    True
    """
    test = max(names)  # "test…" comes after "data…"
    return in_reading_order(Place("test" if name == test else "train", "", name) for name in names)


def _read_batch(path: Path, name: str, file: IO[bytes]) -> bytes:
    """The records of a batch, found to be the official ones."""
    expected, size = PICTURES * _RECORD, file.seek(0, os.SEEK_END)
    if size != expected:
        raise UserError(f"{path}: expected {name} of {expected:,} bytes, found {size:,}: copy or download it again.")
    file.seek(0)
    data = file.read(expected)
    for number, label in enumerate(data[::_RECORD], start=1):
        if label >= len(CLASSES):
            raise UserError(
                f"{path}: expected labels 0…9 in {name}, found {label} in record {number}: copy or download it again."
            )
    digest = hashlib.sha1(data).hexdigest()
    if digest != CIFAR10_BATCHES[name]:
        raise UserError(
            f"{path}: expected {name} with SHA-1 {CIFAR10_BATCHES[name]}, found {digest}: copy or download it again."
        )
    return data


def _encode(planes: bytes) -> bytes:
    """A picture's red, green and blue plane as PNG.

    >>> Image.open(io.BytesIO(_encode(bytes([7] * 1024 + [8] * 1024 + [9] * 1024)))).getpixel((31, 31))
    (7, 8, 9)
    """
    bands = [
        Image.frombytes("L", (_SIDE, _SIDE), planes[start : start + _PLANE]) for start in range(0, 3 * _PLANE, _PLANE)
    ]
    file = io.BytesIO()
    Image.merge("RGB", bands).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _split_batch(data: bytes, place: Place, load: bool) -> Iterator[RawPicture]:
    for number in range(PICTURES):
        start = number * _RECORD
        picture = _encode(data[start + 1 : start + _RECORD]) if load else b""
        yield RawPicture(f"{place.name} picture {number + 1}", CLASSES[data[start]], place.split, picture)


def read_batches(path: Path, load: bool = True) -> Iterator[RawPicture]:
    """The pictures of a folder's or archive's batches as PNG, 32 × 32 px RGB: test first, then train, by name.

    One batch, 30 MB, is in memory at a time. With ``load`` false the data stays empty.

    Raises:
        UserError: a batch is not the official one or not one at all, there is none, or the archive is damaged or
            holds what leads out of it.
        OSError: a file cannot be read.
    """
    with _open_batches(path) as files:
        for place in _file_by_name(files):
            yield from _split_batch(_read_batch(path, place.name, files[place.name]), place, load)


def caveat(path: Path) -> str | None:
    """That the official test batch is missing and what stands in for it, as a sentence; None if it is there.

    Raises:
        UserError, OSError: as `read_batches`, but the batches' contents are not looked at.
    """
    with _open_batches(path) as files:
        first = _file_by_name(files)[0]
    if first.name == _OFFICIAL_TEST:
        return None
    stand_in = f"{first.name} was" if first.split == "test" else f"some pictures of {first.name} were"
    return (
        f"The official test batch is not here: {stand_in} held out from training in its place, "
        "so no figure is of the official test pictures."
    )
