"""What a source of labelled images is, whatever its format, and what it gives: encoded images, one at a time."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cnn.support.errors import UserError

SPLITS = ("train", "validation", "test")

#: More than this many bytes of one image file are never read; a longer image is cut off, and so found damaged.
MAX_BYTES = 1 << 27


@dataclass(frozen=True)
class SourceImage:
    """One encoded image of a source.

    ``name`` says where in the source it is; ``label`` is the class name, None if the source gives none; ``split``
    is one of `SPLITS`, None if the source has no split.
    """

    name: str
    label: str | None
    split: str | None
    data: bytes


class Source(ABC):
    """Labelled images at ``path``; `cnn.data.sources.open_source` chooses the subclass for the format.

    A subclass says which paths it `matches` and how to `_read` them. Each of the public methods raises a `UserError`
    if the source is damaged or cannot be read.
    """

    #: Share of the training images, 0…1, that becomes validation if the source has only train and test.
    validation_share: ClassVar[float] = 0.2

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @abstractmethod
    def matches(cls, path: Path, names: Sequence[str]) -> bool:
        """Whether ``path`` is of this format, if ``names`` are those of its files (of a single file: its own)."""

    def counts(self) -> Counter[tuple[str | None, str | None]]:
        """Number of images of each (split, class); none of them is decoded."""
        with readable(self.path):
            return self._count()

    def images(self) -> Iterator[SourceImage]:
        """All images, one in memory at a time: test, validation, train, and by name inside each.

        So an image that is in two splits comes first in the one that must stay untouched. A split that is the only
        one counts as none.
        """
        with readable(self.path):
            yield from self._read()

    def caveats(self) -> tuple[str, ...]:
        """Sentences that a reader of any figure must know about the source; none for most sources."""
        with readable(self.path):
            return self._caveats()

    @abstractmethod
    def _read(self) -> Iterator[SourceImage]:
        """The images in the order of `images`."""

    def _count(self) -> Counter[tuple[str | None, str | None]]:
        return Counter((image.split, image.label) for image in self._read())

    def _caveats(self) -> tuple[str, ...]:
        return ()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the operating system objects to while ``path`` is read into a `UserError`."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # pyarrow's own text repeats the path
        raise UserError(
            f"{error.filename or path}: expected to read it, found {reason}: "
            "check that it is there and that you may read it."
        ) from error


def raise_if_from_system(error: Exception) -> None:
    """Raise ``error`` again if it comes from the machine (memory, open files, a disk) and not from damaged data."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        raise error


def class_name(index: int, names: Sequence[str]) -> str | None:
    """The name of a class; "class 3" if none of the classes has one; None for a label that means no class.

    >>> class_name(1, ["cat", "dog"]), class_name(3, []), class_name(-1, [])
    ('dog', 'class 3', None)
    """
    if not names and index >= 0:
        return f"class {index}"
    return names[index] if 0 <= index < len(names) else None
