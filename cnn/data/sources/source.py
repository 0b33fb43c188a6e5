"""What a source of labelled images is, whatever its format, and what it gives: encoded images, one at a time."""

import os
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

from cnn.support.errors import UserError
from cnn.support.text import printable

SPLITS = ("train", "validation", "test")

# suffixes of the files that hold several images each
_COLLECTIONS = (".parquet", ".rec", ".zip", ".bin", ".tar.gz", ".tgz", ".tar")

#: A class name has no more characters than this.
MAX_LABEL = 100


@dataclass(frozen=True)
class SourceImage:
    """One encoded image of a source.

    ``name`` says where in the source it is; ``label`` is the class name, None if the source gives none; ``split``
    is one of `SPLITS`, None if the source has no split. ``problem`` says why the image cannot be used; then there may
    be no ``data``.
    """

    name: str
    label: str | None
    split: str | None
    data: bytes
    problem: str = ""


class Source(ABC):
    """Labelled images at ``path``; `cnn.data.sources.open_source` chooses the subclass for the format.

    A subclass says which paths it `matches` and how to `_read` them. Each of the public methods raises a `UserError`
    if the source is damaged or cannot be read.
    """

    #: Share of the training images, 0…1, that becomes validation if the source has only train and test.
    validation_share: ClassVar[float] = 0.2
    #: Whether some images can be read without those before them: then the source can be read in shards.
    random_access: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @abstractmethod
    def matches(cls, path: Path, names: Sequence[str]) -> bool:
        """Whether ``path`` is of this format, if ``names`` are those of its files (of a single file: its own)."""

    def counts(self) -> Counter[tuple[str | None, str | None]]:
        """Number of images of each (split, class); none of them is decoded."""
        with readable(self.path):
            counts: Counter[tuple[str | None, str | None]] = Counter()
            for (split, label), count in Counter((image.split, image.label) for image in self._list()).items():
                counts[split, self._spelt(label)] += count
            return counts

    def listing(self) -> Iterator[SourceImage]:
        """All images by name, split and class, in the order of `images`; their data may be missing."""
        with readable(self.path):
            for image in self._list():
                yield replace(image, label=self._spelt(image.label))

    def images(self, start: int = 0, stop: int | None = None) -> Iterator[SourceImage]:
        """All images, one in memory at a time: test, validation, train, and by name inside each.

        So an image that is in two splits comes first in the one that must stay untouched. A split that is the only
        one counts as none. With ``start`` and ``stop`` only those from the one, counted from 0, up to the other.
        """
        with readable(self.path):
            for image in self._read_some(start, stop):
                yield replace(image, label=self._spelt(image.label))

    def notes(self) -> tuple[str, ...]:
        """Sentences about how the source was understood: where its splits come from, and what is not read."""
        with readable(self.path):
            return self._notes()

    def caveats(self) -> tuple[str, ...]:
        """Sentences that a reader of any figure must know about the source; none for most sources."""
        with readable(self.path):
            return self._caveats()

    @abstractmethod
    def _read(self) -> Iterator[SourceImage]:
        """The images in the order of `images`."""

    def _read_some(self, start: int, stop: int | None) -> Iterator[SourceImage]:
        """Some of what `_read` gives; a format with `random_access` reads no others."""
        return islice(self._read(), start, stop)

    def _list(self) -> Iterator[SourceImage]:
        """What `_read` gives; a format that can do so leaves out the data."""
        return self._read()

    def _caveats(self) -> tuple[str, ...]:
        return ()

    def _notes(self) -> tuple[str, ...]:
        return ()

    def _spelt(self, label: str | None) -> str | None:
        """A class name in the one spelling that it has in the dataset."""
        spelt = None if label is None else printable(spell_class(label))
        if spelt is None or 0 < len(spelt) <= MAX_LABEL:
            return spelt
        found = f"one of {len(spelt)}, {spelt[:20]!r}…" if spelt else f"an empty one, {label!r}"
        raise UserError(f"{self.path}: expected class names of 1 to {MAX_LABEL} characters, found {found}: rename it.")

    def _other_files(self, names: Iterable[str]) -> tuple[str, ...]:
        """A sentence that files which hold several images are not read, if there are some among ``names``."""
        others = [name for name in names if name.lower().endswith(_COLLECTIONS)]
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        return (f"Not read, because a source is of one kind: {printable(others[0])}{more}.",) if others else ()


def origin_of_splits(places: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A sentence that says which folders or files are which split; none without splits.

    >>> origin_of_splits({"train": ["a/0.parquet", "a/1.parquet", "a/2.parquet"], "test": ["b/0.parquet"]})
    ('Train is a/0.parquet and 2 more, test is b/0.parquet.',)
    """
    parts = [
        f"{split} is {places[split][0]}{f' and {len(places[split]) - 1} more' if len(places[split]) > 1 else ''}"
        for split in SPLITS
        if split in places
    ]
    return (printable(f"{', '.join(parts)[0].upper()}{', '.join(parts)[1:]}."),) if parts else ()


def spell_class(name: str) -> str:
    r"""A class name as it is kept: accents in one spelling (NFC), no control characters, no spaces around it.

    >>> spell_class("Bru\u0308he ") == "Br\xfche", spell_class("a\x1b[31m\nb")
    (True, 'a[31m b')
    """
    plain = "".join(c for c in unicodedata.normalize("NFC", name) if c.isspace() or unicodedata.category(c) != "Cc")
    return " ".join(plain.split())


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
