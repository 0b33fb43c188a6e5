"""Several runs at once on one store and one model: all end well, with the result of one run."""

import time

import pytest
from disturbed import FLOWS, Bench, bench  # noqa: F401  (a fixture)


@pytest.mark.long
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("count", [2, 4])
def test_runs_at_once_end_as_one(count: int, flow: str, bench: Bench) -> None:
    bench.undisturbed(flow)
    place = bench.place(flow, f"{flow}-{count}-at-once")
    champions = []
    processes = [place.start(keep_log=True) for _ in range(count)]
    while any(process.is_alive() for process in processes):
        champions.append(place.champion())  # it can answer at any time
        time.sleep(0.1)
    assert [process.exitcode for process in processes] == [0] * count, place.log.read_text(encoding="utf-8")
    assert sorted(champions) == champions and set(champions) <= {"v0001", "v0002"}
    bench.check(place)
