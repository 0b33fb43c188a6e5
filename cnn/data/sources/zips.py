"""Zip files of class folders."""

import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from cnn.data.decoding import MAX_BYTES
from cnn.data.sources.folders import FolderSource
from cnn.data.sources.layout import SourceFile
from cnn.data.sources.source import raise_if_from_system
from cnn.support.errors import UserError
from cnn.support.listing import is_visible
from cnn.support.text import printable

#: A zip with more members, or with a longer table of contents in bytes, is refused before the table is read.
MAX_MEMBERS, MAX_TABLE = 500_000, 1 << 26
#: A zip is refused if its members are larger in all than this many bytes and than so many times the zip itself.
MAX_UNPACKED, MAX_RATIO = 1 << 30, 100

_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, NotImplementedError)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_METHOD_NAMES = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}
_END, _END64, _LOCATOR64, _MEMBER = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2"
_END_SIZE, _COMMENT_SIZE, _SIZE64 = 22, 1 << 16, 76  # bytes; the last: of both records of a zip of more than 4 GiB
_UTF8_FLAG = 0x800


class ZipSource(FolderSource):
    """A zip of what a `FolderSource` is, read in place: nothing is extracted, so names can lead nowhere.

    The file stays open, with its table of contents in memory, as long as the object lives.
    """

    @classmethod
    def matches(cls, path: Path, names: Sequence[str]) -> bool:
        return path.is_file() and path.suffix.lower() == ".zip"

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        with self.path.open("rb") as file:
            if excess := _excess(file):
                raise UserError(f"{self.path}: expected a zip of images, found {excess}: unpack it into a folder.")
        with self._refusing_damage("its table of contents"):
            return zipfile.ZipFile(self.path)

    @cached_property
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        members = {_name_of(info): info for info in self._archive.infolist()}
        members = {n: info for n, info in members.items() if n and not n.endswith("/") and is_visible(n)}
        self._require_readable(list(members.values()))
        return members

    def _require_readable(self, members: list[zipfile.ZipInfo]) -> None:
        """Refuse what can be seen from the table of contents alone."""
        if any(member.flag_bits & 1 for member in members):
            raise UserError(f"{self.path}: expected an open zip, found an encrypted one: unpack it.")
        for method in sorted({member.compress_type for member in members} - set(_METHODS)):
            known = f" ({_METHOD_NAMES[method]})" if method in _METHOD_NAMES else ""
            raise UserError(
                f"{self.path}: expected a zip compressed by Deflate, found compression method {method}{known}, which "
                "cannot be read here: unpack it, or pack it anew."
            )
        size, unpacked = self.path.stat().st_size, sum(member.file_size for member in members)
        if unpacked > max(MAX_UNPACKED, MAX_RATIO * size):
            raise UserError(
                f"{self.path}: expected images, found {size:,} bytes that unpack to {unpacked:,}: "
                "check where the file is from."
            )

    def names(self) -> list[str]:
        """Names of all members that may be images."""
        return list(self._members)

    def _special(self) -> dict[str, str]:
        return {}

    def _problem(self, file: SourceFile) -> str:
        size = self._members[file.name].file_size
        return f"{size:,} bytes are more than {MAX_BYTES:,}" if size > MAX_BYTES else ""

    def load(self, name: str) -> bytes:
        """The first `MAX_BYTES` of a member; may run on several threads at a time."""
        with self._refusing_damage(name), self._archive.open(self._members[name]) as file:
            return file.read(MAX_BYTES)

    def _caveats(self) -> tuple[str, ...]:
        odd = [name for name, info in self._members.items() if not info.flag_bits & _UTF8_FLAG and not name.isascii()]
        misread = [name for name in odd if name == self._members[name].filename.replace("\\", "/")]
        if not misread:
            return ()
        return (
            f"{len(misread)} names in the zip are not in UTF-8 and may be misspelt, such as {printable(misread[0])}.",
        )

    @contextmanager
    def _refusing_damage(self, part: str) -> Iterator[None]:
        """Turn what is raised for damage in a part of the zip into a `UserError`."""
        try:
            yield
        except _ZIP_ERRORS as error:
            raise_if_from_system(error)
            raise UserError(
                f"{self.path}: expected a whole zip file, found damage ({printable(part)}: {error}): "
                "copy or download it again."
            ) from error


def _name_of(info: zipfile.ZipInfo) -> str:
    """A member's name with slashes, also if it is in UTF-8 without saying so, as macOS writes it.

    >>> _name_of(zipfile.ZipInfo("Brühe".encode().decode("cp437") + "\\\\1.png")) == "Brühe/1.png"
    True
    """
    name = info.filename.replace("\\", "/")
    if info.flag_bits & _UTF8_FLAG or name.isascii():
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return name


def _excess(file: BinaryIO) -> str:
    """What is too much in a zip's table of contents, found without reading it as one; empty if nothing is."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_SIZE - _COMMENT_SIZE - _SIZE64))
    tail = file.read()
    is_last = tail[-_END_SIZE:].startswith(_END) and tail.endswith(b"\0\0")  # no comment follows
    place = len(tail) - _END_SIZE if is_last else tail.rfind(_END)
    if place < 0 or place + _END_SIZE > len(tail):
        return ""  # not a zip: whoever opens it says so
    (length,) = struct.unpack_from("<I", tail, place + 12)
    large = place - _SIZE64
    if large >= 0 and tail[large:].startswith(_END64) and tail[place - 20 :].startswith(_LOCATOR64):
        (length,) = struct.unpack_from("<Q", tail, large + 40)
    if length > MAX_TABLE:
        return f"a table of contents of {length:,} bytes, more than {MAX_TABLE:,}" if length <= size else ""
    file.seek(max(0, size - len(tail) + place - length - _SIZE64))
    members = file.read(length + _SIZE64).count(_MEMBER)
    return f"{members:,} members, more than {MAX_MEMBERS:,}" if members > MAX_MEMBERS else ""
