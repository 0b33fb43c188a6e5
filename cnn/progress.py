"""Progress of long work: a bar in the terminal, and whoever else wants to watch (the Prefect UI does)."""

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
_SECONDS_BETWEEN_REPORTS = 1.0


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Let ``observer`` hear of all progress inside the block, about once a second."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


@contextmanager
def progress_bar(description: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Give a function that advances the bar by so many units; the bar shows only in a terminal.

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
            done += count
            bar.update(count)
            now = time.monotonic()
            if observer and total and now - reported > _SECONDS_BETWEEN_REPORTS:
                reported = now
                observer(description, min(1.0, done / total))

        yield advance


def track(items: Iterable[Item], description: str, total: int | None, unit: str) -> Iterator[Item]:
    """Pass the items on, advancing a bar by one for each.

    >>> list(track("ab", "reading", total=2, unit="letter"))
    ['a', 'b']
    """
    with progress_bar(description, total, unit) as advance:
        for item in items:
            yield item
            advance(1)
