"""Flows killed at seeded moments: the next run ends with the result of one that nothing happened to."""

import random
import signal

import pytest
from disturbed import FLOWS, Bench, bench  # noqa: F401  (a fixture)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("index", range(metafunc.config.getoption("--moments")))


@pytest.mark.slow
@pytest.mark.parametrize("flow", ["hotdog", *(pytest.param(flow, marks=pytest.mark.long) for flow in FLOWS[1:])])
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)], ids=["SIGKILL", "SIGTERM"]
)
def test_killed_run_loses_nothing(number: signal.Signals, flow: str, index: int, bench: Bench) -> None:
    bench.undisturbed(flow)
    place = bench.place(flow, f"{flow}-{number.name}-{index}")
    process = place.start()
    process.join(random.Random(place.folder.name).uniform(0, bench.seconds[flow]))
    ended = not process.is_alive()
    process.kill() if number == signal.SIGKILL else process.terminate()
    process.join()
    finished = place.steps()
    assert place.champion() in ("v0001", "v0002")
    assert "Traceback" not in place.log.read_text(encoding="utf-8")
    again = place.run()
    where = "ended" if ended else next((step for step in bench.steps[flow] if step not in finished), "end")
    twice = [step for step in finished if again[step] == "Completed"]
    print(f"\n{place.folder.name}: exit {process.exitcode}; in {where}; done twice: {twice}", flush=True)
    bench.check(place)
    assert len(twice) <= 1  # a kill may fall between the end of a step and the writing of its record
