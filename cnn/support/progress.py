"""Progress of long work, shown in the terminal and to an observer (such as the Prefect UI), and its cancellation."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

#: Called with a description of the work and the fraction of it that is done, 0…1.
Observer = Callable[[str, float], None]

_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)
_cancelled: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)

#: An observer is called no more often than this, in seconds.
REPORT_INTERVAL = 1.0


class Cancelled(BaseException):
    """The work was cancelled, because what had started it failed or was cancelled."""


@contextmanager
def cancel_together() -> Iterator[None]:
    """When an exception leaves the block, cancel the work that was started in it, on any thread.

    A thread belongs to the block if it runs in a copy of the block's context. Its work raises `Cancelled` at its next
    progress step or at its next call of `raise_if_cancelled`.
    """
    event = threading.Event()
    token = _cancelled.set(event)
    try:
        yield
    except BaseException:
        event.set()
        raise
    finally:
        _cancelled.reset(token)


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Report all progress inside the block to ``observer``, at most once per `REPORT_INTERVAL`, and at its end."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def raise_if_cancelled() -> None:
    """Raise `Cancelled` if the current work has been cancelled (see `cancel_together`)."""
    if (cancelled := _cancelled.get()) and cancelled.is_set():
        raise Cancelled("the work that started this one has ended")


@contextmanager
def progress_bar(description: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances the bar by a number of units; the bar is shown only in a terminal.

    Args:
        description: what is being done, such as "decoding".
        total: number of units in all, or None if it is not known; an observer is called only if it is known.
        unit: name of one unit; "B" (bytes) is shown with prefixes.

    The function raises `Cancelled` if the work has been cancelled, see `cancel_together`.

    >>> with progress_bar("decoding", total=2, unit="image") as advance:
    ...     advance(2)
    """
    observer, reported = _observer.get(), 0.0
    with tqdm(
        desc=description,
        total=total,
        unit=unit if unit == "B" else f" {unit}",
        unit_scale=unit == "B",
        disable="TQDM_DISABLE" in os.environ or None,
        leave=False,
    ) as bar:
        done = 0

        def advance(count: int) -> None:
            nonlocal done, reported
            raise_if_cancelled()
            done += count
            bar.update(count)
            now = time.monotonic()
            if observer and total and now - reported > REPORT_INTERVAL:
                reported = now
                observer(description, min(1.0, done / total))

        yield advance
        if observer and reported:
            observer(description, 1.0)


def track(items: Iterable[Item], description: str, total: int | None, unit: str) -> Iterator[Item]:
    """Yield the items and advance a progress bar by one after each.

    >>> list(track("ab", "reading", total=2, unit="letter"))
    ['a', 'b']
    """
    with progress_bar(description, total, unit) as advance:
        for item in items:
            yield item
            advance(1)
