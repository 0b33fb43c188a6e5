"""Files that are written whole or not at all, and references to them that can be checked."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from cnn.errors import UserError


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's bytes, read in blocks of 1 MiB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def text_digest(*parts: object) -> str:
    """SHA-256 of the parts' texts; a part's boundary counts.

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


def visible_files(folder: Path) -> list[str]:
    """Sorted relative names of all files at any depth, links followed, without those that begin with a dot.

    Raises:
        OSError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    names, entered = [], set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        here = Path(place)
        entered.add(here.resolve())
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in visible if (here / name).resolve() not in entered]  # links may circle
        names += [(here / name).relative_to(folder).as_posix() for name in files if not name.startswith(".")]
    return sorted(names)


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents; its place and times do not count.

    Names that begin with a dot are not part of a folder's content.
    """
    if path.is_file():
        return file_digest(path)
    return text_digest(*(part for name in visible_files(path) for part in (name, file_digest(path / name))))


class Reference(BaseModel):
    """What travels between tasks: where something is, what it is, and the digest of its content."""

    model_config = ConfigDict(frozen=True)

    kind: str
    path: Path
    digest: str

    @classmethod
    def to(cls, path: Path, kind: str) -> Self:
        """Refer to the file or folder ``path`` as it is now."""
        path = path.absolute()
        return cls(kind=kind, path=path, digest=content_digest(path))

    def is_intact(self) -> bool:
        """Whether the file or folder is still there with the same content."""
        try:
            return self.path.exists() and content_digest(self.path) == self.digest
        except OSError:
            return False


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well, flush it and rename it to ``path``.

    When the block fails, nothing is left behind and an earlier ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes private files
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, existing: Literal["replace", "refuse"] = "replace") -> Iterator[Path]:
    """The same as `atomic_file` for a folder: filled beside its place, flushed, renamed.

    Raises:
        OSError: ``path`` is there already and ``existing`` is ``"refuse"``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            _flush(file)
        if existing == "replace":
            shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)  # fails if a folder with something in it is there
        _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out that lock the same folder, which is made if need be; waits for them first."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # the system takes it back when the process dies
        yield
    finally:
        os.close(descriptor)


def require_writable(folder: Path, option: str) -> None:
    """Make ``folder`` if need be and try to write into it.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{option} {folder}: cannot be written to ({error.strerror}); name another folder.") from error
