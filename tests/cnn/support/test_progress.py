"""What an observer of progress is told, and how work on other threads is cancelled."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event

import pytest

from cnn.support import progress
from cnn.support.progress import (
    Cancelled,
    cancel_together,
    observed_by,
    progress_bar,
    raise_if_cancelled,
    track,
)

Reports = list[tuple[str, float]]


@contextmanager
def reports() -> Iterator[Reports]:
    """All reports from inside the block."""
    received: Reports = []
    with observed_by(lambda *report: received.append(report)):
        yield received


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report each step, however fast they follow one another."""
    monkeypatch.setattr(progress, "REPORT_INTERVAL", -1.0)


@pytest.mark.usefixtures("every_step")
def test_observer_sees_each_step_and_the_end() -> None:
    with reports() as received:
        assert list(track("abcd", "reading", total=4, unit="letter")) == list("abcd")
    assert received == [("reading", fraction) for fraction in (0.25, 0.5, 0.75, 1.0, 1.0)]


def test_fast_steps_are_not_all_reported() -> None:
    with reports() as received:
        list(track("abcd", "reading", total=4, unit="letter"))
    assert received == [("reading", 0.25), ("reading", 1.0)]


@pytest.mark.usefixtures("every_step")
def test_item_counts_once_it_is_used() -> None:
    with reports() as received:
        items = track("ab", "reading", total=2, unit="letter")
        assert next(items) == "a" and not received
        assert next(items) == "b" and received == [("reading", 0.5)]


@pytest.mark.usefixtures("every_step")
def test_fraction_never_exceeds_one() -> None:
    with reports() as received, progress_bar("downloading", total=10, unit="B") as advance:
        advance(4)
        advance(7)
    assert received == [("downloading", 0.4), ("downloading", 1.0), ("downloading", 1.0)]


@pytest.mark.usefixtures("every_step")
def test_unknown_total_is_not_reported() -> None:
    with reports() as received:
        list(track("abcd", "reading", total=None, unit="letter"))
    assert received == []


@pytest.mark.usefixtures("every_step")
def test_failed_work_does_not_report_its_end() -> None:
    with reports() as received, pytest.raises(OSError), progress_bar("reading", total=4, unit="letter") as advance:
        advance(1)
        raise OSError
    assert received == [("reading", 0.25)]


@pytest.mark.usefixtures("every_step")
def test_observer_sees_only_its_block() -> None:
    with reports() as outer:
        with reports() as inner:
            list(track("a", "inside", total=1, unit="letter"))
        list(track("a", "outside", total=1, unit="letter"))
    list(track("a", "afterwards", total=1, unit="letter"))
    assert {name for name, _ in inner} == {"inside"}
    assert {name for name, _ in outer} == {"outside"}


def train_forever(started: Event) -> None:
    for _ in track(iter(int, 1), "training", total=None, unit="batch"):
        started.set()


def wait_forever(started: Event) -> None:
    started.set()
    while True:
        raise_if_cancelled()


@pytest.mark.parametrize("work", [train_forever, wait_forever])
def test_failure_cancels_other_threads(work: Callable[[Event], None]) -> None:
    started = Event()
    with ThreadPoolExecutor() as pool:
        with pytest.raises(KeyboardInterrupt), cancel_together():
            future = pool.submit(copy_context().run, work, started)
            assert started.wait(60)
            raise KeyboardInterrupt
        with pytest.raises(Cancelled):
            future.result(60)


def test_success_cancels_nothing() -> None:
    with cancel_together():
        items = track("abc", "reading", total=3, unit="letter")
        assert [next(items), next(items)] == ["a", "b"]
    assert list(items) == ["c"]


def test_cancellation_ends_with_its_block() -> None:
    with pytest.raises(KeyboardInterrupt), cancel_together():
        raise KeyboardInterrupt
    raise_if_cancelled()
    assert list(track("ab", "reading", total=2, unit="letter")) == ["a", "b"]
