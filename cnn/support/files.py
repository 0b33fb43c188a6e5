"""Files and folders that are written whole or not at all, their digests, and locks on folders."""

import fcntl
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from cnn.support.errors import UserError
from cnn.support.listing import visible_files

#: How the names of temporary files and folders end; they begin with a dot.
_TEMPORARY = ".tmp"


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def text_digest(*parts: object) -> str:
    """SHA-256 of the parts' texts; the boundaries between them count.

    >>> text_digest("ab", "c") == text_digest("a", "bc")
    False
    """
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()


def printable(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are not UTF-8 become question marks.

    >>> printable("caf\\udce9.jpg")
    'caf?.jpg'
    """
    return name.encode(errors="replace").decode()


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents; place and times do not count.

    What `visible_files` leaves out is not part of a folder's content.
    """
    if path.is_file():
        return file_digest(path)
    return text_digest(*(part for name in visible_files(path) for part in (name, file_digest(path / name))))


def folder_size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def abandoned(folder: Path, pattern: str = "**/.*") -> list[Path]:
    """Temporary files and folders inside ``folder`` that no living process writes to: a killed one left them."""
    found = []
    for path in folder.glob(pattern + _TEMPORARY):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.append(path)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)
    return found


@contextmanager
def _temporary(path: Path, make: Callable[[str, Path], str]) -> Iterator[Path]:
    """A locked temporary file or folder beside ``path``; those that killed processes left for ``path`` are removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in abandoned(path.parent, f".{glob.escape(path.name)}.*"):
        _remove(left)
    while True:
        temporary = Path(make(f".{path.name}.", path.parent))
        descriptor = os.open(temporary, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # the system releases it when the process dies
        if temporary.exists():  # else another process took it for abandoned before the lock
            break
        os.close(descriptor)
    try:
        yield temporary
    finally:
        _remove(temporary)
        os.close(descriptor)


def _make_file(prefix: str, folder: Path) -> str:
    handle, name = tempfile.mkstemp(_TEMPORARY, prefix, folder)
    os.close(handle)
    return name


def _make_folder(prefix: str, folder: Path) -> str:
    return tempfile.mkdtemp(_TEMPORARY, prefix, folder)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block succeeds, flush it and rename it to ``path``.

    When the block fails, nothing is left behind and an earlier ``path`` stays as it was.
    """
    with _temporary(path, _make_file) as temporary:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes private files
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)


@contextmanager
def atomic_folder(path: Path, existing: Literal["replace", "refuse"] = "replace") -> Iterator[Path]:
    """The same as `atomic_file` for a folder: filled beside its place, flushed, renamed.

    Raises:
        OSError: ``path`` is there already with something in it and ``existing`` is ``"refuse"``.
    """
    with _temporary(path, _make_folder) as temporary:
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            _flush(file)
        _flush(temporary)
        if existing == "replace":
            shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)  # fails if a folder with something in it is there
        _flush(path.parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Exclude other processes that lock the same folder, which is made if need be; waits for them first."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # the system releases it when the process dies
        yield
    finally:
        os.close(descriptor)


def require_writable(folder: Path, setting: str) -> None:
    """Make ``folder`` if need be and try to write into it.

    Raises:
        UserError: it cannot be made or written to; names the ``setting``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{setting} {folder}: cannot be written to ({error.strerror}); name another folder.") from error
