"""Freed memory: by itself glibc keeps it for the process, a part for each of its threads."""

import ctypes
import os

from cnn.support.parallel import number_of_threads

_ARENAS = -8  # M_ARENA_MAX of mallopt(3)
_libc = ctypes.CDLL(None)


def limit_arenas() -> None:
    """Let glibc have one arena for each thread that computes; by itself it has up to eight for each core.

    It has no effect in a process that has more than eight already, or whose ``MALLOC_ARENA_MAX`` says how many.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        _libc.mallopt(_ARENAS, number_of_threads())


def give_back() -> None:
    """Give the memory that was freed, and that glibc keeps, back to the system."""
    _libc.malloc_trim(0)
