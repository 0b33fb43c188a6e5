"""The exceptions for mistakes of the user and failures of the world; errors of the system in words."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from cnn.support.text import printable

#: Errors of the system that say that there is no space left, and what they mean.
NO_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than is allowed (ulimit -f)",
}
#: What MXNet, Python and its import of libraries say where memory is lacking, without raising a MemoryError.
_NO_MEMORY = re.compile(
    "bad_alloc|memory allocation|allocate (cpu )?memory|out of memory|start new thread|failed to map segment"
    "|^MXNetError: Resource temporarily unavailable",
    re.IGNORECASE | re.MULTILINE,
)


class UserError(Exception):
    """A sentence for the user: what is wrong, what was expected, what was found, what to do next.

    Whoever catches it prints it without a traceback and exits with a non-zero status. Each of its lines is `printable`:
    it may name what comes from anybody.
    """

    def __init__(self, sentence: object) -> None:
        super().__init__("\n".join(map(printable, str(sentence).split("\n"))))


class TransientError(UserError):
    """A `UserError` whose cause may go away by itself, such as a network that is down: a retry can succeed."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what the system says of memory, disks, paths and permissions into a sentence; other errors stay as they are.

    Raises:
        UserError: the sentence.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError, ImportError) as error:
        if sentence := describe_system_error(error):
            raise UserError(sentence) from error
        raise


def describe_system_error(error: BaseException) -> str | None:
    """What the system lacks or refuses, as a sentence; None if the error says nothing of that kind.

    >>> describe_system_error(MemoryError())
    'There is not enough memory: close other programs, or use a machine, a GPU or a container that has more.'
    >>> describe_system_error(OSError(errno.ENOSPC, "No space left on device", "/store"))  # doctest: +ELLIPSIS
    'Nothing more can be written at /store: the disk is full; free some space and run the same command again, ...'
    >>> describe_system_error(RuntimeError("our own mistake"))
    """
    if _lacks_memory(error):
        return "There is not enough memory: close other programs, or use a machine, a GPU or a container that has more."
    if isinstance(error, FileNotFoundError) and error.errno is None:
        return f"{error}: there is no such file; check the path."  # as pyarrow says it
    if not isinstance(error, OSError) or error.errno is None:
        return None
    place, reason = error.filename, error.strerror
    if error.errno in NO_SPACE:
        at = f" at {place}" if place else ""
        return (
            f"Nothing more can be written{at}: {NO_SPACE[error.errno]}; free some space and run the same command "
            "again, it resumes from here."
        )
    if isinstance(error, PermissionError) and place:
        return f"{place} may not be read or written; change its permissions or name another."
    if place:
        return f"{place}: {reason}; check the path."
    # pyarrow names the place in what it says
    return f"{reason}; check the path." if error.errno in (errno.ENOENT, errno.EIO, errno.EROFS) else None


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    says_it_in_words = isinstance(error, RuntimeError | OSError | ImportError)  # MXNet's error is a RuntimeError
    return says_it_in_words and _NO_MEMORY.search(str(error)) is not None
