"""What the names of folders and files say: which split and which class the images in them belong to.

What can be read in one way only is read; what cannot is refused with what was found and what is expected.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cnn.data.sources.source import origin_of_splits
from cnn.data.sources.tree import Folder, grow, is_image_name
from cnn.support.text import printable

_READING_ORDER = ("test", "validation", "train", None)
_SPLIT_WORDS = {
    "train": "train|training",
    "validation": "validation|validate|val|valid|dev|devel|development",
    "test": "test|testing|eval|evaluation|holdout",
}
_NEUTRAL = "sets?|data|datasets?|images?|imgs?|photos?|folders?|splits?|parts?|batch|of"
_EXPECTED = "expected a folder for each class with its images inside, or such folders inside train, validation and test"


class LayoutError(ValueError):
    """The folders cannot be understood; the message says what was found, what is expected and what to do."""


class SourceFile(NamedTuple):
    """A file of a source: its name, and the split and class of what is in it (None: the name does not say).

    ``label`` is empty if the file holds images of several classes. ``problem`` says why a file without a class is not
    used, where there is more to say than that.
    """

    name: str
    split: str | None
    label: str | None
    problem: str = ""


class Layout(NamedTuple):
    """The files in reading order, and sentences about how their folders were understood."""

    files: list[SourceFile]
    notes: tuple[str, ...]


# ---- what a name says


def _words(name: str) -> list[str]:
    """The words of a name in lower case, at separators, digits and inner capitals.

    >>> _words("My_trainImages-2.TEST")
    ['my', 'train', 'images', 'test']
    """
    letters = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", name))
    return [word.lower() for part in letters for word in re.findall(r"[A-Z]?[^A-Z]+|[A-Z]+", part)]


def split_and_stem(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The split that a name holds as a word, None if it holds none or several, and the other words that matter.

    >>> split_and_stem("seg_train"), split_and_stem("Testset 2"), split_and_stem("contest")
    (('train', ('seg',)), ('test', ()), (None, ('contest',)))
    """
    splits, stem = set(), []
    for word in _words(name):
        for split, pattern in _SPLIT_WORDS.items():
            if re.fullmatch(f"({pattern})({_NEUTRAL})?", word):
                splits.add(split)
                break
        else:
            stem += [] if re.fullmatch(_NEUTRAL, word) else [word]
    return (splits.pop() if len(splits) == 1 else None), tuple(stem)


def split_of(name: str) -> str | None:
    """The split that a name holds as a word: train, validation or test, or None.

    >>> split_of("Valid"), split_of("beans-test-00000-of-00001.parquet"), split_of("trains"), split_of("train_test")
    ('validation', 'test', None, None)
    """
    return split_and_stem(name)[0]


def in_reading_order(files: Iterable[SourceFile]) -> list[SourceFile]:
    """Sort by split (test, validation, train) and name; if only one split has classes, it counts as none."""
    files = list(files)
    if len({file.split for file in files if file.label is not None}) == 1:
        files = [file._replace(split=None) for file in files]
    return sorted(files, key=lambda file: (_READING_ORDER.index(file.split), file.name))


# ---- what folders say


def read_layout(names: Sequence[str]) -> Layout:
    """Split and class of the files ``[wrappers/][split/]class/…/name`` or ``[wrappers/]class/split/name``.

    Only names that look like those of images decide, unless there are none. Files outside class folders have no class.

    Raises:
        LayoutError: there are no class folders, or it is not clear which folders are splits and which are classes.

    >>> files, notes = read_layout(["a/train/cat/1.png", "a/train/dog/2.png", "a/Test/cat/3.png", "a/notes.txt"])
    >>> files[0], notes
    (SourceFile(name='a/Test/cat/3.png', split='test', label='cat', problem=''), ('Train is a/train, test is a/Test.',))
    >>> read_layout(["cat/1.png", "dog/2.png"]).files[1]
    SourceFile(name='dog/2.png', split=None, label='dog', problem='')
    """
    tree = grow(list(filter(is_image_name, names)) or names)
    reading = _Reading(tree)
    reading.read(reading.tidy(tree))
    files = in_reading_order(reading.place(name) for name in names)
    return Layout(files, tuple(map(printable, reading.notes(files))))


class _Reading:
    """How a tree of folders is understood: the split and class of class folders, and why others are left out."""

    def __init__(self, tree: Folder) -> None:
        self.tree = tree
        self.places: dict[str, tuple[str | None, str]] = {}  # path of a folder → split and class of what is in it
        self.problems: dict[str, str] = {}  # path of a folder → why it is left out
        self.splits: dict[str, list[str]] = defaultdict(list)  # split → paths of its folders

    def fail(self, what: str, remedy: str) -> LayoutError:
        return LayoutError(printable(f"{_EXPECTED}; found {what}: {self.tree.describe()}; {remedy}."))

    def place(self, name: str) -> SourceFile:
        """Split, class and problem of a file by the folders that it is in."""
        parts = [part for part in name.split("/") if part]
        for end in range(min(len(parts) - 1, self.tree.height), 0, -1):
            path = "/".join(parts[:end])
            if path in self.places:
                return SourceFile(name, *self.places[path])
            if path in self.problems:
                return SourceFile(name, None, None, self.problems[path])
        return SourceFile(name, None, None)

    def notes(self, files: list[SourceFile]) -> list[str]:
        """What was understood: which folder is which split, and which are left out."""
        sentences = list(origin_of_splits(self.splits))
        if sentences and len({file.split for file in files if file.label is not None}) == 1:
            sentences.append("Only one split has classes, so it counts as none.")
        return sentences + [f"Left out: {path}, {problem}." for path, problem in sorted(self.problems.items())]

    # ---- what is passed over before folders are classes or splits

    def tidy(self, folder: Folder) -> Folder:
        """The folder inside ``folder`` that matters: what only wraps it, and copies of it, are passed over."""
        while len(folder.folders) == 1:
            (inner,) = folder.folders
            if not inner.folders and inner.key != folder.key and set(split_and_stem(inner.name)) != {None, ()}:
                break  # a class, and neither the same name again nor one such as "images"
            folder = inner
        return folder.without(self._copies(folder))

    def _copies(self, folder: Folder) -> list[Folder]:
        """Folders inside that hold the same class folders as lie beside them, with the same files."""
        copies = []
        for each in folder.folders:
            inner = self.tidy(each)
            if len(inner.keys) < 1 + bool(inner.files) or not inner.keys <= folder.keys - {each.key}:
                continue
            beside = folder.without([each])
            if split_of(each.name) or not set(inner.relative_files()) <= set(beside.relative_files()):
                raise self.fail(f"{each.path} with folders named as those beside it", "merge them or move one away")
            copies.append(each)
            self.problems[each.path] = "a copy of the folders beside it"
        return copies

    # ---- which folders are classes

    def read(self, folder: Folder) -> None:
        """Understand a tidy folder."""
        splits = self._split_folders(folder)
        if splits:
            for each in folder.folders:
                self._read_split(each, splits.get(each.path))
        elif not self._read_splits_in_classes(folder):
            for each in folder.folders:
                self.places[each.path] = None, each.name
        if not self.places:
            raise self.fail("no class folders", "sort the images into folders that are named as their classes")

    def _read_split(self, folder: Folder, split: str | None) -> None:
        if split is None:
            self.problems[folder.path] = "neither a split nor a class"
            return
        inner = self.tidy(folder)
        if not inner.folders:
            self.problems[folder.path] = "without class folders"
            return
        self.splits[split].append(inner.path)
        for each in inner.folders:
            self.places[each.path] = split, each.name

    def _split_folders(self, folder: Folder) -> dict[str, str]:
        """Path → split of the folders inside that are splits; empty if they are classes."""
        named = _named_as_splits(folder.folders)
        inner = {each.path: self.tidy(each) for each in folder.folders if each.path in named}
        labelled = {path for path in inner if inner[path].folders}
        found = {named[path] for path in labelled}
        if len(named) == len(folder.folders) > 1 and not labelled:
            raise self.fail("splits without class folders", "sort the images of each split into class folders")
        if not labelled:
            return {}
        if "train" not in found and "train" in named.values():
            raise self.fail("no class folders in train", "sort its images into class folders")
        if len(named) == len(folder.folders) or (len(found) > 1 and _share_a_class([inner[p] for p in labelled])):
            return named
        if all(inner[path].files or len(inner[path].folders) < 2 for path in labelled):
            return {}  # a class that is named as a split, with folders of its own
        raise self.fail("folders that may be splits or classes", "rename the classes or move the other folders away")

    def _read_splits_in_classes(self, folder: Folder) -> bool:
        """Understand ``class/split/name`` if the folders are that."""
        splits = {each.path: _only_splits(self.tidy(each)) for each in folder.folders}
        if len(splits) < 2 or not any(splits.values()):
            return False
        if not all(splits.values()):
            raise self.fail("splits inside some folders only", "give each class the same splits, or none of them any")
        for each in folder.folders:
            for path, split in splits[each.path].items():
                self.splits[split].append(path)
                self.places[path] = split, each.name
        return True


def _named_as_splits(folders: Sequence[Folder]) -> dict[str, str]:
    """Path → split of the folders that are named as splits of one thing: train, test; seg_train, seg_test.

    A word beside it that no other split has, as in "test tube" beside "training shoe", makes it no split.
    """
    by_stem: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for folder in folders:
        split, stem = split_and_stem(folder.name)
        if split:
            by_stem[stem][folder.path] = split
    return {
        path: split
        for stem, group in by_stem.items()
        if not stem or len(set(group.values())) > 1
        for path, split in group.items()
    }


def _only_splits(folder: Folder) -> dict[str, str]:
    """Path → split of the folders inside, if all of them are splits, two or more, and nothing else is there."""
    named = _named_as_splits(folder.folders)
    is_split = len(named) == len(folder.folders) and len(set(named.values())) > 1 and not folder.files
    return named if is_split else {}


def _share_a_class(folders: Iterable[Folder]) -> bool:
    """Whether two of the folders hold a folder of the same name."""
    keys = [key for folder in folders for key in folder.keys]
    return len(set(keys)) < len(keys)
