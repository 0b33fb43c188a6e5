"""CIFAR-10's binary version: batches of 10,000 images, from a folder or straight out of the .tar.gz.

A record is one byte for the class and 3072 for the image: a plane of 32 × 32 px for red, green and blue each.
"""

import gzip
import hashlib
import io
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from PIL import Image

from cnn.data.catalog import CIFAR10_BATCHES
from cnn.data.sources.layout import SourceFile, in_reading_order
from cnn.data.sources.source import Source, SourceImage
from cnn.data.sources.tar import Member, TarError, TarReader
from cnn.support.errors import UserError
from cnn.support.listing import visible_files

#: Names of the classes 0…9.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
#: Images in a batch.
IMAGES = 10_000

_SIDE = 32
_PLANE = _SIDE * _SIDE
_RECORD = 1 + 3 * _PLANE
_FOLDER = "cifar-10-batches-bin"  # what the archive unpacks to
_OFFICIAL_TEST = "test_batch.bin"
_MAX_UNPACKED, _MAX_MEMBERS = 1 << 29, 1000  # the official archive: 184 MB in 9 members
_TAR_ERRORS = (TarError, gzip.BadGzipFile, zlib.error, EOFError)


class CifarSource(Source):
    """CIFAR-10's binary batches: in a folder, in the folder inside it that the archive unpacks to, or in the .tar.gz.

    They are read and verified once and kept, 30 MB each, until `images` has given all images.
    """

    validation_share = 0.05  # there are so many images that this suffices

    @classmethod
    def matches(cls, path: Path, names: Sequence[str]) -> bool:
        if path.is_dir():
            return any(_is_batch(name.removeprefix(f"{_FOLDER}/")) for name in names)
        return path.is_file() and path.name.lower().endswith((".tar.gz", ".tgz"))

    @cached_property
    def _batches(self) -> dict[str, bytes]:
        """The records of each batch by its name, verified."""
        read = _read_folder if self.path.is_dir() else _read_archive
        batches = dict(read(self.path))
        if not batches:
            raise UserError(
                f"{self.path}: expected CIFAR-10's binary batches, such as data_batch_1.bin, found none: "
                "take cifar-10-binary.tar.gz, or unpack other images into a folder."
            )
        if list(batches) == [_OFFICIAL_TEST]:
            raise UserError(
                f"{self.path}: expected batches to train on, found only {_OFFICIAL_TEST}: add data_batch_1.bin."
            )
        return batches

    @cached_property
    def _files(self) -> list[SourceFile]:
        return _file_by_name(self._batches)

    def _list(self) -> Iterator[SourceImage]:
        for file in self._files:
            for number, label in enumerate(self._batches[file.name][::_RECORD], start=1):
                yield SourceImage(f"{file.name} image {number}", CLASSES[label], file.split, b"")

    def _read(self) -> Iterator[SourceImage]:
        for file in self._files:
            data = self._batches[file.name]
            for number, start in enumerate(range(0, len(data), _RECORD), start=1):
                image = _encode(data[start + 1 : start + _RECORD])
                yield SourceImage(f"{file.name} image {number}", CLASSES[data[start]], file.split, image)
        self.__dict__.pop("_batches", None)  # the memory is needed elsewhere

    def _notes(self) -> tuple[str, ...]:
        names = visible_files(self.path) if self.path.is_dir() else []
        return self._other_files(name for name in names if PurePosixPath(name).name not in CIFAR10_BATCHES)

    def _caveats(self) -> tuple[str, ...]:
        first = self._files[0]
        if first.name == _OFFICIAL_TEST:
            return ()
        held_out = f"{first.name} was" if first.split == "test" else f"some images of {first.name} were"
        return (
            f"The official test batch is missing: {held_out} held out from training in its place, "
            "so no figure is of the official test images.",
        )


def _is_batch(name: str) -> bool:
    """Whether a file's name is that of a batch, be it one of CIFAR-10's or not.

    >>> _is_batch("data_batch_7.bin"), _is_batch("test_batch.bin"), _is_batch("data_batch_1")
    (True, True, False)
    """
    return re.fullmatch(r"(data|test)_batch[^/]*\.bin", name) is not None


def _read_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and records of each batch in a folder, or else of those in the folder that the archive unpacks to."""
    names = visible_files(folder)
    inside = [name for name in names if _is_batch(name.removeprefix(f"{_FOLDER}/"))]
    for name in [name for name in names if _is_batch(name)] or inside:
        batch = PurePosixPath(name).name
        with (folder / name).open("rb") as file:
            yield batch, _verify(folder, batch, os.fstat(file.fileno()).st_size, file.read)


def _read_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and records of each batch of a .tar.gz, read in place: nothing is extracted, so names can lead nowhere."""
    try:
        with gzip.open(path) as stream:
            archive = TarReader(cast(BinaryIO, stream), max_bytes=_MAX_UNPACKED, max_members=_MAX_MEMBERS)
            for member in archive:
                _require_harmless(path, member)
                name = PurePosixPath(member.name).name
                if _is_batch(name) and member.is_file:
                    yield name, _verify(path, name, member.size, archive.read)
    except _TAR_ERRORS as error:
        raise UserError(
            f"{path}: expected a whole .tar.gz file, found damage ({error}): copy or download it again."
        ) from error


def _require_harmless(path: Path, member: Member) -> None:
    """Refuse what no archive of batches has, and what would do harm to whoever unpacks it."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        found = "whose path leads out of the archive"
    elif not (member.is_file or member.is_folder):
        found = "which is a link or a device"
    else:
        return
    raise UserError(
        f"{path}: expected an archive of plain files and folders, found {member.name!r}, {found}: "
        "download it again from a source that you trust."
    )


def _verify(path: Path, name: str, size: int, read: Callable[[int], bytes]) -> bytes:
    """The records of the batch ``name`` in ``path``, which must be those of the official batch."""
    if name not in CIFAR10_BATCHES:
        known = ", ".join(CIFAR10_BATCHES)
        raise UserError(f"{path}: expected of CIFAR-10 only {known}, found {name!r}: move it away.")
    expected = IMAGES * _RECORD
    if size != expected:
        raise UserError(f"{path}: expected {name} of {expected:,} bytes, found {size:,}: copy or download it again.")
    data = read(expected)
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


def _file_by_name(names: Collection[str]) -> list[SourceFile]:
    """The batches in reading order: test is the official test batch, or else the one with the highest number.

    A batch that is alone has no split.

    >>> [file[:2] for file in _file_by_name(["data_batch_1.bin", "data_batch_2.bin"])]
    [('data_batch_2.bin', 'test'), ('data_batch_1.bin', 'train')]
    >>> _file_by_name(["data_batch_1.bin"])[0].split is None
    True
    """
    test = max(names)  # "test…" comes after "data…"
    return in_reading_order(SourceFile(name, "test" if name == test else "train", "") for name in names)


def _encode(planes: bytes) -> bytes:
    """An image's red, green and blue plane as PNG.

    >>> Image.open(io.BytesIO(_encode(bytes([7] * 1024 + [8] * 1024 + [9] * 1024)))).getpixel((31, 31))
    (7, 8, 9)
    """
    bands = [
        Image.frombytes("L", (_SIDE, _SIDE), planes[start : start + _PLANE]) for start in range(0, 3 * _PLANE, _PLANE)
    ]
    file = io.BytesIO()
    Image.merge("RGB", bands).save(file, "PNG", compress_level=1)
    return file.getvalue()
