"""What the names of files say: which split and which class the images in them belong to."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cnn.support.files import printable

_READING_ORDER = ("test", "validation", "train", None)
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


class SourceFile(NamedTuple):
    """A file of a source: its name, and the split and class of what is in it (None: the name does not say).

    ``label`` is empty if the file holds images of several classes.
    """

    name: str
    split: str | None
    label: str | None


def split_of(name: str) -> str | None:
    """The split that a file's or folder's name begins with: train, validation or test, or None.

    >>> split_of("Valid"), split_of("test-00000-of-00001.parquet"), split_of("trains")
    ('validation', 'test', None)
    """
    word = re.match("[a-z]*", name.lower())
    return _SPLIT_NAMES.get(word.group()) if word else None


def in_reading_order(files: Iterable[SourceFile]) -> list[SourceFile]:
    """Sort by split (test, validation, train) and name; if only one split has classes, it counts as none."""
    files = list(files)
    if len({file.split for file in files if file.label is not None}) == 1:
        files = [file._replace(split=None) for file in files]
    return sorted(files, key=lambda file: (_READING_ORDER.index(file.split), file.name))


def _folders(paths: Iterable[list[str]], depth: int, below: int) -> set[str]:
    """Names of the folders at ``depth`` that hold something ``below`` levels further down."""
    return {path[depth] for path in paths if len(path) > depth + below}


def read_layout(names: Iterable[str]) -> list[SourceFile]:
    """Split and class of the files ``[wrappers/][split/]class/…/name`` in reading order; others have no class.

    >>> read_layout(["a/train/cat/1.png", "a/train/dog/2.png", "a/Test/cat/3.png", "a/notes.txt"])[0]
    SourceFile(name='a/Test/cat/3.png', split='test', label='cat')
    >>> read_layout(["train_set/cat/1.png", "test_set/cat/2.png"])[0]
    SourceFile(name='test_set/cat/2.png', split='test', label='cat')
    >>> read_layout(["cat/1.png", "dog/2.png"])[1]
    SourceFile(name='dog/2.png', split=None, label='dog')
    """
    paths = {name: [part for part in name.split("/") if part] for name in names}
    depth = 0  # so many folders are wrapped around the rest
    while len(_folders(paths.values(), depth, 1)) == 1 and _folders(paths.values(), depth, 2):
        depth += 1
    outer = _folders(paths.values(), depth, 2)
    split_named: Callable[[str], str | None] = _SPLIT_NAMES.get
    if outer and all(map(split_of, outer)):  # train_set and test_set, and nothing that looks like a class
        split_named = split_of
    # a class may well be called "test": such a folder is a split if it holds folders, or if all are called so
    has_splits = any(split_named(name.lower()) for name in outer)
    has_splits |= all(split_named(name.lower()) for name in _folders(paths.values(), depth, 1))
    files = []
    for name, path in paths.items():
        inside = path[depth:]
        split = split_named(inside[0].lower()) if has_splits and len(inside) > 1 else None
        if has_splits:
            inside = inside[1:] if split else []
        files.append(SourceFile(name, split, printable(inside[0]) if len(inside) > 1 else None))
    return in_reading_order(files)
