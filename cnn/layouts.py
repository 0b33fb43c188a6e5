"""What the names of files say: which split and which class a picture belongs to."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

SPLITS = ("train", "validation", "test")
_READING_ORDER = ("test", "validation", "train", None)
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


class Place(NamedTuple):
    """Where a picture is filed: split and class (None: not said), and its name in the source."""

    split: str | None
    label: str | None
    name: str


@dataclass(frozen=True)
class RawPicture:
    """One encoded picture of a source.

    ``name`` says where in the source it is; ``label`` is the class name, None if the source does not give
    one; ``split`` is one of `SPLITS`, None if the source has no split.
    """

    name: str
    label: str | None
    split: str | None
    data: bytes


def split_of(name: str) -> str | None:
    """The split that a file's or folder's name begins with, one of `SPLITS`, or None.

    >>> split_of("Valid"), split_of("test-00000-of-00001.parquet"), split_of("trains")
    ('validation', 'test', None)
    """
    word = re.match("[a-z]*", name.lower())
    return _SPLIT_NAMES.get(word.group()) if word else None


def in_reading_order(places: Iterable[Place]) -> list[Place]:
    """Sort by split (test, validation, train) and name; a split that alone has classes counts as none."""
    places = list(places)
    if len({place.split for place in places if place.label is not None}) == 1:
        places = [place._replace(split=None) for place in places]
    return sorted(places, key=lambda place: (_READING_ORDER.index(place.split), place.name))


def _folders(paths: Iterable[list[str]], depth: int, below: int) -> set[str]:
    """Names of the folders at ``depth`` that hold something ``below`` levels further down."""
    return {path[depth] for path in paths if len(path) > depth + below}


def file_by_folders(names: Iterable[str]) -> list[Place]:
    """File the names ``[wrappers/][split/]class/…/file`` in reading order; other names have no class.

    >>> file_by_folders(["a/train/cat/1.png", "a/train/dog/2.png", "a/Test/cat/3.png", "a/notes.txt"])[0]
    Place(split='test', label='cat', name='a/Test/cat/3.png')
    >>> file_by_folders(["train_set/cat/1.png", "test_set/cat/2.png"])[0]
    Place(split='test', label='cat', name='test_set/cat/2.png')
    >>> file_by_folders(["cat/1.png", "dog/2.png"])[1]
    Place(split=None, label='dog', name='dog/2.png')
    """
    paths = {name: [part for part in name.split("/") if part] for name in names}
    depth = 0
    while len(_folders(paths.values(), depth, 1)) == 1 and _folders(paths.values(), depth, 2):
        depth += 1
    outer = _folders(paths.values(), depth, 2)
    split_named: Callable[[str], str | None] = _SPLIT_NAMES.get
    if outer and all(map(split_of, outer)):  # train_set and test_set, and nothing that looks like a class
        split_named = split_of
    # a class may well be called "test": such a folder is a split if it holds folders, or if all are called so
    has_splits = any(split_named(name.lower()) for name in outer)
    has_splits |= all(split_named(name.lower()) for name in _folders(paths.values(), depth, 1))
    places = []
    for name, path in paths.items():
        inside = path[depth:]
        split = split_named(inside[0].lower()) if has_splits and len(inside) > 1 else None
        if has_splits:
            inside = inside[1:] if split else []
        places.append(Place(split, inside[0] if len(inside) > 1 else None, name))
    return in_reading_order(places)
