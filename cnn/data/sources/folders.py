"""Folders of images whose names are their classes, with or without a folder for each split around them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from cnn.data.sources.layout import SourceFile, read_layout
from cnn.data.sources.source import MAX_BYTES, Source, SourceImage
from cnn.support.files import printable, visible_files

_SYSTEM_NAMES = ("__macosx", "thumbs.db")


def is_visible(name: str) -> bool:
    """Whether no part of a relative name is hidden or made by the operating system.

    >>> is_visible("cat/1.png"), is_visible("cat/.1.png"), is_visible("__MACOSX/cat/1.png")
    (True, False, False)
    """
    return not any(part.startswith(".") or part.lower() in _SYSTEM_NAMES for part in name.split("/"))


def image_files(folder: Path) -> list[str]:
    """Sorted relative names of all files that may be images: neither hidden nor made by the operating system.

    Raises:
        OSError: a folder cannot be read.
    """
    return list(filter(is_visible, visible_files(folder)))


class FolderSource(Source):
    """A folder of files ``[wrappers/][split/]class/…/name``, each of them one image."""

    @classmethod
    def matches(cls, path: Path, names: Sequence[str]) -> bool:
        return path.is_dir() and bool(names)

    @cached_property
    def _files(self) -> list[SourceFile]:
        return read_layout(self._names())

    def _count(self) -> Counter[tuple[str | None, str | None]]:
        return Counter((file.split, file.label) for file in self._files)

    def _read(self) -> Iterator[SourceImage]:
        for file in self._files:
            yield SourceImage(printable(file.name), file.label, file.split, self._load(file.name))

    def _names(self) -> list[str]:
        """Relative names of all files that may be images."""
        return image_files(self.path)

    def _load(self, name: str) -> bytes:
        """The first `MAX_BYTES` of a file."""
        with (self.path / name).open("rb") as file:
            return file.read(min(os.fstat(file.fileno()).st_size, MAX_BYTES))
