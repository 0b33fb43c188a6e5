"""Results in order, few items in flight, and no work left behind."""

import threading
import time
from collections.abc import Iterator

import pytest

from cnn.support.parallel import in_groups, ordered_map


def test_results_in_order() -> None:
    def slower_first(number: int) -> int:
        time.sleep((20 - number) / 2000)
        return -number

    assert list(ordered_map(slower_first, range(20), ahead=5)) == [-number for number in range(20)]


@pytest.mark.parametrize("ahead", [1, 4])
def test_items_in_flight_are_bounded(ahead: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    for done, _ in enumerate(ordered_map(str, items(), ahead=ahead)):
        assert len(taken) == min(20, done + ahead)


def test_error_comes_at_its_place() -> None:
    results = ordered_map(lambda number: 6 // number, [1, 2, 0, 3], ahead=4)
    assert [next(results), next(results)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_ends_the_work() -> None:
    before, finished = set(threading.enumerate()), []

    def work(number: int) -> None:
        time.sleep(0.01)
        finished.append(number)

    results = ordered_map(work, range(2000), ahead=1000)
    next(results)
    assert set(threading.enumerate()) > before
    results.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) == before
    assert len(finished) < 1000


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (3, [3]), (6, [3, 3]), (7, [3, 3, 1])])
def test_group_sizes(count: int, sizes: list[int]) -> None:
    groups = list(in_groups(range(count), 3))
    assert [len(group) for group in groups] == sizes
    assert [item for group in groups for item in group] == list(range(count))
