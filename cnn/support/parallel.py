"""Work on several threads with a bounded number of items in flight: memory does not grow with the data."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def physical_cores() -> int:
    """Number of physical cores this process may run on, at least 1."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text(encoding="utf-8") if siblings.exists() else str(cpu))
    return max(1, len(cores))


def number_of_threads() -> int:
    """As many as ``OMP_NUM_THREADS`` says, or one per physical core: several workers on a machine share its cores.

    What no machine has, which MXNet is never asked for, counts as not said.
    """
    given = os.environ.get("OMP_NUM_THREADS", "").strip()
    return max(1, int(given)) if given.isdecimal() and len(given) < 6 else physical_cores()


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 32, threads: int | None = None
) -> Iterator[Result]:
    """``map`` on several threads: results in the order of the items, at most ``ahead`` items in flight.

    Threads suffice, since Pillow, numpy, pyarrow and MXNet release Python's global lock while they compute.

    Args:
        threads: how many; None: `number_of_threads`. More are of use to what waits.

    >>> list(ordered_map(str.upper, "abc", ahead=2))
    ['A', 'B', 'C']
    """
    pool = ThreadPoolExecutor(threads or number_of_threads(), thread_name_prefix="cnn")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Consecutive items in lists of ``size``; the last may be shorter (``itertools.batched`` of Python 3.12).

    >>> list(in_groups("abc", 2))
    [['a', 'b'], ['c']]
    """
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
