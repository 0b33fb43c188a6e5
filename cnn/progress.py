"""Progress of long work: a bar in the terminal, whoever else wants to watch (the Prefect UI does), and its end."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

#: Called with what is done, as a description and a fraction 0…1.
Observer = Callable[[str, float], None]

_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)
_stopped: ContextVar[threading.Event | None] = ContextVar("stopped", default=None)
_SECONDS_BETWEEN_REPORTS = 1.0


class Stopped(BaseException):
    """Work that nobody waits for any more, ended at its next step."""


@contextmanager
def stopping_together() -> Iterator[None]:
    """If the block is left by an exception, work that was begun in it, on whatever thread, ends at its next step.

    A step is one of progress, or of waiting (`end_if_stopped`).
    """
    event = threading.Event()
    token = _stopped.set(event)
    try:
        yield
    except BaseException:
        event.set()
        raise
    finally:
        _stopped.reset(token)


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Let ``observer`` hear of all progress inside the block, about once a second."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def end_if_stopped() -> None:
    """Raise `Stopped` if the present work is to end."""
    if (stopped := _stopped.get()) and stopped.is_set():
        raise Stopped("nobody waits for it any more")


@contextmanager
def progress_bar(description: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Give a function that advances the bar by so many units; the bar shows only in a terminal.

    The function raises `Stopped` once the work is to end, see `stopping_together`.

    >>> with progress_bar("decoding", total=2, unit="picture") as advance:
    ...     advance(2)
    """
    observer, reported = _observer.get(), 0.0
    with tqdm(
        desc=description,
        total=total,
        unit=unit if unit == "B" else f" {unit}",
        unit_scale=unit == "B",
        disable=None,
        leave=False,
    ) as bar:
        done = 0

        def advance(count: int) -> None:
            nonlocal done, reported
            end_if_stopped()
            done += count
            bar.update(count)
            now = time.monotonic()
            if observer and total and now - reported > _SECONDS_BETWEEN_REPORTS:
                reported = now
                observer(description, min(1.0, done / total))

        yield advance
        if observer and reported:
            observer(description, 1.0)


def track(items: Iterable[Item], description: str, total: int | None, unit: str) -> Iterator[Item]:
    """Pass the items on, advancing a bar by one for each.

    >>> list(track("ab", "reading", total=2, unit="letter"))
    ['a', 'b']
    """
    with progress_bar(description, total, unit) as advance:
        for item in items:
            yield item
            advance(1)
