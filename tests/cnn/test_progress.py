"""Progress: who hears of it, and how work on other threads ends."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Event

import pytest

from cnn import progress
from cnn.progress import Stopped, observed_by, stopping_together, track


def test_an_observer_hears_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_REPORTS", -1.0)
    heard: list[tuple[str, float]] = []
    with observed_by(lambda *said: heard.append(said)):
        list(track("abcd", "reading", total=4, unit="letter"))
    assert heard[:4] == [("reading", quarter / 4) for quarter in (1, 2, 3, 4)]
    assert heard[-1] == ("reading", 1.0)


def test_work_on_other_threads_ends_with_what_began_it() -> None:
    begun = Event()

    def forever() -> None:
        for _ in track(iter(int, 1), "training", total=None, unit="batch"):
            begun.set()

    with ThreadPoolExecutor() as pool:
        with pytest.raises(KeyboardInterrupt), stopping_together():
            work = pool.submit(copy_context().run, forever)
            assert begun.wait(60)
            raise KeyboardInterrupt
        with pytest.raises(Stopped):
            work.result(60)


def test_work_goes_on_when_what_began_it_ends_well() -> None:
    with stopping_together():
        items = track("abc", "reading", total=3, unit="letter")
        assert next(items) == "a"
    assert list(items) == ["b", "c"]
