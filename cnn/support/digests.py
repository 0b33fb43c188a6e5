"""Digests of files and folders, remembered for as long as a file stays as it was: unchanged bytes are read once.

Whether it did is seen from its size, inode, and times of modification and of change, as git's index does. The time of
change is the system's own: a program that sets the other one back cannot set this one.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from cnn.support.files import atomic_file, file_digest, text_digest
from cnn.support.listing import visible_files

#: Nanoseconds. What changed so short a time ago may change again within the same tick of the file system's clock.
_SETTLING = 2 * 10**9

_Stamp = tuple[int, int, int, int]
_memo: ContextVar[dict[str, tuple[_Stamp, str]] | None] = ContextVar("memo", default=None)


@contextmanager
def remembered_digests(file: Path) -> Iterator[None]:
    """Let `content_digest` use, inside the block, the digests that ``file`` holds, and add to them.

    One that cannot be read, as after a killed run, is begun anew.
    """
    memo: dict[str, tuple[_Stamp, str]] = {}
    with suppress(OSError, ValueError, TypeError, AttributeError):
        content = json.loads(file.read_text(encoding="utf-8"))
        memo = {path: (tuple(stamp), str(digest)) for path, (stamp, digest) in content.items()}
    before = dict(memo)
    token = _memo.set(memo)
    try:
        yield
    finally:
        _memo.reset(token)
        if memo != before:
            there = {path: known for path, known in memo.items() if os.path.exists(path)}  # noqa: PTH110  (as below)
            with suppress(OSError), atomic_file(file) as temporary:  # without it, files are read again: no harm
                temporary.write_text(json.dumps(there), encoding="utf-8")


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents; place and times do not count.

    What `visible_files` leaves out is not part of a folder's content.
    """
    path = path.absolute()
    if path.is_file():
        return _digest(str(path))
    return text_digest(*(part for name in visible_files(path) for part in (name, _digest(f"{path}/{name}"))))


def _digest(place: str) -> str:
    memo = _memo.get()
    if memo is None:
        return file_digest(Path(place))
    found = os.stat(place)  # noqa: PTH116  (of thousands of files, Path takes longer than the disk)
    stamp = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    if place in memo and memo[place][0] == stamp:
        return memo[place][1]
    digest = file_digest(Path(place))
    memo.pop(place, None)
    if time.time_ns() - found.st_ctime_ns > _SETTLING:
        memo[place] = stamp, digest
    return digest
