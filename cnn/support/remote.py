"""Working copies: paths on this machine that stand for addresses in object storage.

Everything is computed at such a path; `share` puts what was made there to its address, `fetch` makes the working copy
the same as what is there. A file is an object. A folder is an object for each file, whose name holds the file's
SHA-256, so that two writers never replace each other's, and `CONTENTS`, put last: the folder is there if and only if
that is. To check it, nothing else is read: `CONTENTS` holds the digests, and the sizes and ETags that a listing shows.
"""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import FileIO, RawIOBase
from pathlib import Path
from typing import NamedTuple

from cnn.support import files
from cnn.support.digests import content_digest
from cnn.support.files import file_digest, text_digest
from cnn.support.listing import visible_files
from cnn.support.objects import SCHEMES, TOGETHER, AlteredError, ConflictError, Object, Stored
from cnn.support.parallel import ordered_map
from cnn.support.ranges import RangeFile

#: The variable of the environment that names the folder of working copies; without it, that is ``.cache``.
COPIES = "HOTDOG_COPIES"
#: The object that lists a folder's files.
CONTENTS = "contents.json"
_NONE = Stored(-1, None, None)
_ATTEMPTS = 5  # at an object that others replace


def local_path(address: str) -> Path:
    """The path that stands for an address.

    Raises:
        ValueError: it names no bucket, or has a part that is no name.
    """
    scheme, _, rest = address.partition("://")
    names = rest.rstrip("/").split("/")
    if not {"", ".", ".."}.isdisjoint(names):
        raise ValueError(f"expected {scheme}://BUCKET/NAME, without empty names and dots")
    return Path(os.environ.get(COPIES, ".cache")).absolute() / f"{scheme}:" / "/".join(names)


def address_of(path: Path) -> str | None:
    """The address that a path stands for, whichever machine made it; None if it stands for none.

    >>> address_of(local_path("s3://bucket/store"))
    's3://bucket/store'
    """
    for number, part in enumerate(path.parts[:-1]):
        if part.endswith(":") and part[:-1] in SCHEMES:
            return f"{part}//{'/'.join(path.parts[number + 1 :])}"
    return None


def object_of(path: Path) -> Object | None:
    """The object, or the prefix, that a path stands for; None if it stands for none."""
    return Object(address) if (address := address_of(path)) else None


def require_writable(folder: Path, setting: str) -> None:
    """As `cnn.support.files.require_writable`, of an address, too."""
    files.require_writable(folder, setting)
    if place := object_of(folder):
        name = f".{uuid.uuid4()}"
        (place / name).put(b"", text_digest(name))
        place.delete([name])


# ---- results


class _File(NamedTuple):
    """A file of a shared folder: its SHA-256, and what a listing shows of its object."""

    digest: str
    size: int
    e_tag: str | None


class _Contents(NamedTuple):
    """What `CONTENTS` of a folder says, and which version of it says so."""

    folder: Object
    files: dict[str, _File]
    version: Stored | None = None

    @classmethod
    def of(cls, folder: Object) -> "_Contents | None":
        """The contents of a folder; None if it is not there."""
        if (found := (folder / CONTENTS).read()) is None:
            return None
        return cls(folder, {name: _File(*each) for name, each in json.loads(found[0]).items()}, found[1])

    @property
    def checksum(self) -> str:
        """`content_digest` of the folder."""
        return text_digest(*(part for name, file in self.files.items() for part in (name, file.digest)))

    def is_whole(self) -> bool:
        """Whether all objects are there as they were put, as far as a listing shows."""
        found = {name: (stored.size, stored.e_tag) for name, stored in self.folder.below().items()}
        return all(found.get(f"{file.digest}/{name}") == (file.size, file.e_tag) for name, file in self.files.items())

    def object(self, name: str) -> Object:
        """The object of a file."""
        return self.folder / self.files[name].digest / name


def share(path: Path) -> None:
    """Put a file or a folder to its address, if it has one, whole or not at all.

    A folder that is whole there already stays as it is, and the working copy becomes the same.
    """
    if (place := object_of(path)) is None:
        return
    if path.is_file():
        digest, found = content_digest(path), place.stored()
        if found is None or found.digest != digest:
            place.put(path, digest)
        return
    before = _Contents.of(place)
    if before is None or not before.is_whole():
        content = json.dumps(_put_files(path, place, anew=before is not None), indent=1).encode()
        with suppress(ConflictError):  # another machine has shared the same folder first
            (place / CONTENTS).put(content, text_digest(content), before.version if before else None)
    fetch(path)


def _put_files(path: Path, place: Object, anew: bool) -> dict[str, _File]:
    """Put the files of a folder, unless ``anew`` but for those that an earlier attempt has put.

    Returns:
        What a listing shows of them then.
    """
    digests = {name: content_digest(path / name) for name in visible_files(path)}
    objects = {name: f"{digest}/{name}" for name, digest in digests.items()}
    there = place.below()
    sizes = {name: there.get(objects[name], _NONE).size for name in objects}
    missing = [name for name in objects if anew or sizes[name] != (path / name).stat().st_size]
    at_once(lambda name: (place / objects[name]).put(path / name, digests[name]), missing)
    there = place.below()
    return {name: _File(digests[name], *there[objects[name]][:2]) for name in objects}


def at_once(function: Callable[[str], object], names: Iterable[str]) -> None:
    """Do something with each name, several at a time."""
    for _ in ordered_map(function, names, threads=TOGETHER):
        pass


def fetch(path: Path, lazily: bool = False) -> None:
    """Make the working copy of what was shared the same as that; a path without an address stays as it is.

    Args:
        lazily: of a folder only delete what differs; `open_file` reads the rest from where it is.
    """
    if (place := object_of(path)) is None:
        return
    if (contents := _Contents.of(place)) is None:
        refresh(path)
        return
    present = visible_files(path) if path.is_dir() else []
    same = {name for name in present if name in contents.files and _is_same(path / name, contents.files[name].digest)}
    for name in set(present) - same:
        (path / name).unlink()

    def download(name: str) -> None:
        contents.object(name).download(path / name, contents.files[name].digest)

    if not lazily:
        at_once(download, contents.files.keys() - same)


def _is_same(file: Path, digest: str) -> bool:
    return file.is_file() and content_digest(file) == digest


def refresh(file: Path) -> None:
    """Make the working copy of an object the same as that, or gone; a path without an address stays as it is.

    Raises:
        ConflictError: another machine has replaced it again and again meanwhile.
    """
    if place := object_of(file):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _refresh_once(place, file)
                return
            except (ConflictError, FileNotFoundError):  # since it was looked at
                if attempt == _ATTEMPTS:
                    raise


def _refresh_once(place: Object, file: Path) -> None:
    if found := place.stored():
        if not _is_same(file, found.digest):
            place.download(file, found.digest, found.e_tag)
    elif file.is_file():
        file.unlink()


def holds(path: Path, checksum: str) -> bool:
    """Whether what was shared of a path with an address has this `content_digest`; no file of it is read."""
    place = object_of(path)
    assert place
    if contents := _Contents.of(place):
        return contents.checksum == checksum and contents.is_whole()
    found = place.stored()
    return found is not None and found.digest == checksum


def _source(file: Path) -> tuple[Object, Stored | _File]:
    """The object of a file, in a shared folder or by itself, and what is known of it.

    Raises:
        FileNotFoundError: there is none.
    """
    if (place := object_of(file)) and (folder := object_of(file.parent)):
        if (contents := _Contents.of(folder)) and file.name in contents.files:
            return contents.object(file.name), contents.files[file.name]
        if found := place.stored():
            return place, found
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))


def open_file(file: Path) -> RawIOBase:
    """A file open for reading: its working copy or, where there is none, a `RangeFile` of what was shared.

    Raises:
        FileNotFoundError: there is neither.
    """
    if file.exists():
        return FileIO(file)
    place, stored = _source(file)
    return RangeFile(place.read_parts, stored.size)


def shared_digest(file: Path) -> str:
    """SHA-256 of a file, which is not read where it has no working copy."""
    return file_digest(file) if file.exists() else _source(file)[1].digest


def is_shared(file: Path) -> bool:
    """Whether a file is at its address, if it has one."""
    with suppress(FileNotFoundError):
        return bool(_source(file))
    return False


def remove(path: Path) -> None:
    """Delete a file or a folder, and what was shared of it."""
    if place := object_of(path):
        there = [*place.below(), *([""] if place.stored() else [])]
        for names in ({CONTENTS}, {*there} - {CONTENTS}):  # without that, nothing else counts
            place.delete(names.intersection(there))
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# ---- single files


def children(folder: Path) -> set[str]:
    """Names of the files and folders in a folder."""
    if place := object_of(folder):
        return place.names()
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def has(file: Path, digest: str) -> bool:
    """Whether a file has this SHA-256; one with an address is downloaded unless its working copy has."""
    if file.is_file() and file_digest(file) == digest:
        return True
    if (place := object_of(file)) is None:
        return False
    try:
        place.download(file, digest)
    except (FileNotFoundError, AlteredError):
        return False
    return True
