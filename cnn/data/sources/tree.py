"""A tree of folders, grown from the names of files."""

import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

#: Folders further down than this count as part of the last one.
MAX_DEPTH = 16
_SHOWN = 8  # folders that a description lists
_SUFFIXES = frozenset(
    """
    .jpg .jpeg .jpe .jfif .pjpeg .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .jp2 .j2k
    .jpx .jpf .j2c .jpc .avif .avifs .heic .heif .hif .jxl .ico .icns .svg .psd .xcf .tga .eps .dng .cr2 .cr3
    .nef .nrw .arw .orf .rw2 .raf .pef .srw
    """.split()  # noqa: SIM905  (a list of strings would be a line each)
)


def is_image_name(name: str) -> bool:
    """Whether a name is that of an image, by its suffix, be it of a format that can be read or not, or has no suffix.

    >>> is_image_name("cat/1.JPG"), is_image_name("cat/1"), is_image_name("cat/notes.txt")
    (True, True, False)
    """
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in _SUFFIXES or not suffix


@dataclass(frozen=True)
class Folder:
    """A folder: its path, the names of the files that are directly in it, and its folders in the order of names."""

    path: str
    files: tuple[str, ...] = ()
    folders: tuple["Folder", ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def key(self) -> str:
        """The name in one spelling, whatever the system made of accents and capitals."""
        return unicodedata.normalize("NFC", self.name).casefold()

    @cached_property
    def keys(self) -> frozenset[str]:
        """Keys of the folders inside."""
        return frozenset(folder.key for folder in self.folders)

    @cached_property
    def height(self) -> int:
        """How many folders lie one in another below this one at most."""
        return max((1 + folder.height for folder in self.folders), default=0)

    def without(self, folders: Collection["Folder"]) -> "Folder":
        """The same folder without some of those in it."""
        paths = {folder.path for folder in folders}
        return Folder(self.path, self.files, tuple(each for each in self.folders if each.path not in paths))

    def relative_files(self, prefix: str = "") -> Iterator[str]:
        """Names of all files at any depth, the folders in one spelling."""
        yield from (prefix + name for name in self.files)
        for folder in self.folders:
            yield from folder.relative_files(f"{prefix}{folder.key}/")

    def _leaves(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Path and files of each folder that has files."""
        if self.files:
            yield self.path, self.files
        for folder in self.folders:
            yield from folder._leaves()

    def describe(self) -> str:
        """The folders with files in them, and how many.

        >>> grow(["a/train/1.png", "a/train/2.png", "a/test/3.png", "b.zip"]).describe()
        'b.zip outside folders, a/test/ (1 file), a/train/ (2 files)'
        """
        leaves = list(self._leaves())
        shown = [
            f"{path}/ ({len(files)} file{'s' * (len(files) > 1)})"
            if path
            else f"{files[0]}{f' and {len(files) - 1} more files' * (len(files) > 1)} outside folders"
            for path, files in leaves[:_SHOWN]
        ]
        return ", ".join([*shown, *([f"{len(leaves) - _SHOWN} more folders"] if len(leaves) > _SHOWN else [])])


def grow(names: Iterable[str]) -> Folder:
    """The tree of the files with these relative names; its root has the path "".

    >>> [folder.path for folder in grow(["a/b/1.png", "a/c/2.png"]).folders[0].folders]
    ['a/b', 'a/c']
    """
    files: dict[str, list[str]] = {"": []}
    folders: dict[str, dict[str, None]] = {"": {}}
    for name in names:
        parts = [part for part in name.split("/") if part]
        path = ""
        for part in parts[:-1][:MAX_DEPTH]:
            inner = f"{path}/{part}" if path else part
            folders[path][inner] = None
            folders.setdefault(inner, {})
            path = inner
        files.setdefault(path, []).append("/".join(parts[path.count("/") + bool(path) :]))

    def build(path: str) -> Folder:
        inside = tuple(build(inner) for inner in sorted(folders[path]))
        return Folder(path, tuple(sorted(files.get(path, ()))), inside)

    return build("")
