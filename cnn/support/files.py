"""Files and folders that are written whole or not at all, their digests, and locks on folders."""

import ctypes
import errno
import fcntl
import glob
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from cnn.support.errors import NO_SPACE, UserError
from cnn.support.listing import special_kind

#: How the names of temporary files and folders end; they begin with a dot.
_TEMPORARY = ".tmp"
_HERE, _EXCHANGE = -100, 2  # of renameat2(2)
#: What the system, or `read_file`, says of a path at which there is no file that can be read.
NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EFBIG)


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


def read_file(path: Path, limit: int) -> bytes:
    """All bytes of a file; whatever is none, such as a named pipe or a device, is never opened.

    Raises:
        OSError: it is no file, holds more than ``limit`` bytes, or cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # of what a link leads to
        raise OSError(errno.EINVAL, f"it is {special_kind(path) or 'a folder'} and not a file", str(path))
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit >> 20} MiB", str(path))
    return data


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


def abandoned(folder: Path, pattern: str = "**/.*") -> Iterator[Path]:
    """Temporary files and folders inside ``folder`` that no living process writes to: a killed one left them.

    Each is locked until the next is asked for.
    """
    for path in list(folder.glob(pattern + _TEMPORARY)):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path
        finally:
            os.close(descriptor)


@contextmanager
def naming_full(place: Path) -> Iterator[None]:
    """Put ``place`` into the error that there is no space left: by itself it names none, or what was copied."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE and (error.filename is None or error.filename2):
            error.filename, error.filename2 = str(place), None
        raise


@contextmanager
def _temporary(path: Path, make: Callable[[str, Path], str]) -> Iterator[tuple[Path, int]]:
    """A locked temporary file or folder beside ``path``, and a descriptor of it.

    Those that killed processes left for ``path`` are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in abandoned(path.parent, f".{glob.escape(path.name)}.*"):
        _remove(left)
    while True:
        temporary = Path(make(f".{path.name}.", path.parent))
        with suppress(FileNotFoundError):  # another process removed it as abandoned before it was locked
            descriptor = os.open(temporary, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # the system releases it when the process dies
            if temporary.exists():
                break
            os.close(descriptor)
    try:
        with naming_full(path.parent):
            yield temporary, descriptor
    finally:
        _remove(temporary)
        os.close(descriptor)


def _require_same(temporary: Path, descriptor: int, path: Path) -> None:
    """Raise an error if a temporary file or folder was deleted, and perhaps made anew with only a part of its content.

    Raises:
        FileNotFoundError: names ``path``.
    """
    if not (temporary.exists() and os.path.samestat(temporary.stat(), os.fstat(descriptor))):
        raise FileNotFoundError(errno.ENOENT, "it was deleted while it was being written", str(path))


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
    with _temporary(path, _make_file) as (temporary, descriptor):
        yield temporary
        _require_same(temporary, descriptor, path)
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
    with _temporary(path, _make_folder) as (temporary, descriptor):
        yield temporary
        _require_same(temporary, descriptor, path)
        temporary.chmod(0o755)
        for file in temporary.rglob("*"):
            _flush(file)
        _flush(temporary)
        try:
            temporary.rename(path)
        except OSError as error:
            if existing == "refuse" or error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            _swap(temporary, path)
        _flush(path.parent)


def _swap(temporary: Path, path: Path) -> None:
    """Put a folder in the place of another, at once: who reads there finds the one or the other."""
    names = os.fsencode(temporary), os.fsencode(path)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE):
        if (number := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise OSError(number, os.strerror(number), str(path))
        shutil.rmtree(path, ignore_errors=True)  # a file system that cannot, as NFS
        temporary.rename(path)


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
