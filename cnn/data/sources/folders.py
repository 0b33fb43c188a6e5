"""Folders of images whose names are their classes, with or without a folder for each split around them."""

import logging
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from cnn.data.decoding import MAX_BYTES
from cnn.data.sources.layout import Layout, LayoutError, SourceFile, read_layout
from cnn.data.sources.source import Source, SourceImage
from cnn.data.sources.tree import is_image_name
from cnn.support.errors import UserError
from cnn.support.listing import list_files
from cnn.support.text import printable

logger = logging.getLogger(__name__)


def holds_class_folders(names: Sequence[str]) -> bool:
    """Whether images lie in two or more folders: then these are the source, whatever lies beside them.

    >>> holds_class_folders(["cat/1.png", "dog/2.png", "metadata.parquet"])
    True
    >>> holds_class_folders(["train/0.parquet", "test/0.parquet", "assets/logo.png"])
    False
    """
    return len({name.rpartition("/")[0] for name in names if "/" in name and is_image_name(name)}) > 1


class FolderSource(Source):
    """A folder of files ``[wrappers/][split/]class/…/name``, each of them one image."""

    random_access = True

    @classmethod
    def matches(cls, path: Path, names: Sequence[str]) -> bool:
        return path.is_dir() and bool(names)

    @cached_property
    def _layout(self) -> Layout:
        try:
            return read_layout(self.names())
        except LayoutError as error:
            raise UserError(f"{self.path}: {error}") from error

    def _list(self) -> Iterator[SourceImage]:
        return (SourceImage(printable(file.name), file.label, file.split, b"") for file in self._layout.files)

    def _read(self) -> Iterator[SourceImage]:
        return self._read_some(0, None)

    def _read_some(self, start: int, stop: int | None) -> Iterator[SourceImage]:
        files = self._layout.files
        if stop is None or stop > len(files):
            files = [*files, *(SourceFile(name, None, None, reason) for name, reason in self._special().items())]
        for file in files[start:stop]:
            problem = file.problem if file.label is None else self._problem(file)
            data = b"" if file.label is None or problem else self.load(file.name)
            yield SourceImage(printable(file.name), file.label, file.split, data, problem)

    def _notes(self) -> tuple[str, ...]:
        return (*self._layout.notes, *self._other_files(file.name for file in self._layout.files if file.label is None))

    def names(self) -> list[str]:
        """Relative names of all files that may be images."""
        return list_files(self.path).files

    def _special(self) -> dict[str, str]:
        """Relative name of what is no file, with the reason why it is left out; what is skipped beside is logged."""
        listing = list_files(self.path)
        for name, reason in listing.skipped.items():
            logger.info("Not read: %s, %s.", printable(name), reason)
        return listing.special

    def _problem(self, file: SourceFile) -> str:
        """Why a file with a class is left out unread; empty if it is to be read."""
        return ""

    def load(self, name: str) -> bytes:
        """The first `MAX_BYTES` of a file."""
        with (self.path / name).open("rb") as file:
            return file.read(min(os.fstat(file.fileno()).st_size, MAX_BYTES))
