"""Zip files of class folders."""

import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from cnn.data.sources.folders import FolderSource, is_visible
from cnn.data.sources.source import MAX_BYTES, raise_if_from_system
from cnn.support.errors import UserError
from cnn.support.files import printable

_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, NotImplementedError)


class ZipSource(FolderSource):
    """A zip of what a `FolderSource` is, read in place: nothing is extracted, so names can lead nowhere.

    The file stays open, with its table of contents in memory, as long as the object lives.
    """

    @classmethod
    def matches(cls, path: Path, names: Sequence[str]) -> bool:
        return path.is_file() and path.suffix.lower() == ".zip"

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        with self._refusing_damage("its table of contents"):
            return zipfile.ZipFile(self.path)

    @cached_property
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        members = self._archive.infolist()
        if any(member.flag_bits & 1 for member in members):
            raise UserError(f"{self.path}: expected an open zip, found an encrypted one: unpack it.")
        return {member.filename.replace("\\", "/"): member for member in members}

    def _names(self) -> list[str]:
        return [name for name in self._members if not name.endswith("/") and is_visible(name)]

    def _load(self, name: str) -> bytes:
        with self._refusing_damage(name), self._archive.open(self._members[name]) as file:
            return file.read(MAX_BYTES)

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
