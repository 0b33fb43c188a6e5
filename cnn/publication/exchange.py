"""Exchange: how machines that publish to the same address in object storage keep out of each other's way.

Where a path has no address, nothing is done here: a lock on the model's folder suffices.
"""

import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from cnn.support.files import file_digest, text_digest
from cnn.support.listing import visible_files
from cnn.support.objects import ConflictError, Object, Over, Stored
from cnn.support.remote import at_once, object_of

_CLAIM = ".claimed"
_expected: ContextVar[dict[Object, Stored | None]] = ContextVar("expected")


def put(source: Path, path: Path, over: Over = "anything") -> None:
    """Put a file to the address of ``path``, if it has one; raises as `Object.put` does, and inside `unchanged`."""
    if place := object_of(path):
        expected = _expected.get({})
        stored = place.put(source, file_digest(source), expected.get(place, over))
        if place in expected:
            expected[place] = stored


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Let `put` replace the object of ``path`` inside the block only if nobody else has since the block began.

    Otherwise it raises a `ConflictError`.
    """
    place = object_of(path)
    token = _expected.set({place: place.stored()} if place else {})
    try:
        yield
    finally:
        _expected.reset(token)


def claim(folder: Path) -> bool:
    """Whether a folder's name is this process's, and no other machine's: the first that asks gets it."""
    if place := object_of(folder):
        owner = f"{socket.gethostname()} {uuid.uuid4()}".encode()
        try:
            (place / _CLAIM).put(owner, text_digest(owner), None)
        except ConflictError:
            return False
    return True


def put_folder(source: Path, folder: Path, last: str) -> None:
    """Put the files of ``source`` to the address of ``folder``, if it has one, and ``last`` after all others."""
    if object_of(folder):
        at_once(lambda name: put(source / name, folder / name), set(visible_files(source)) - {last})
        put(source / last, folder / last, None)


def withdraw(folder: Path, first: str) -> None:
    """Delete what `put_folder` put, ``first`` before all others; the name stays claimed."""
    if place := object_of(folder):
        place.delete([first])
        place.delete([name for name in place.below() if name != _CLAIM])
