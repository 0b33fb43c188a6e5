"""Disks that are full at each step that writes, or read-only: a sentence, and the next run ends as an undisturbed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from disks import disk  # noqa: F401  (a fixture)
from disturbed import FLOWS, Bench, bench  # noqa: F401  (a fixture)

PAGE = 4  # KiB


def kib(disk: Path) -> int:
    """What the files on a disk take."""
    return sum(PAGE * -(-path.stat().st_size // (PAGE * 1024)) for path in disk.rglob("*") if path.is_file())


@pytest.mark.long
@pytest.mark.parametrize("flow", FLOWS)
def test_disk_full_at_each_step_loses_nothing(flow: str, bench: Bench, disk: Callable[..., Path]) -> None:
    bench.undisturbed(flow)
    store = disk(100_000)
    place, stopped = bench.place(flow, f"{flow}-full", store=str(store)), []
    place.run()
    for kind in sorted(path for path in store.iterdir() if path.is_dir()):
        whole = kib(store)
        for folder in kind.glob("*/"):
            shutil.rmtree(folder)
        left = kib(store)
        for free in (PAGE, max(PAGE, (whole - left) // 2)):
            disk(left + free)
            process = place.start()
            process.join()
            log = place.log.read_text(encoding="utf-8")
            assert process.exitcode == 1 and f"written at {store}" in log and "the disk is full" in log
            assert "Traceback" not in log
            stopped.append(next(step for step in bench.steps[flow] if step not in place.steps()))
        disk(100_000)
        place.run()
        bench.check(place)
    print(f"\n{place.folder.name}: {stopped}")
    writing = {step for step in bench.steps[flow] if step.split()[0] not in ("open", "publish", "join", "score")}
    assert writing <= set(stopped)


@pytest.mark.long
@pytest.mark.parametrize("setting", ["store", "models"])
def test_read_only_disk_is_refused_before_any_work(setting: str, bench: Bench, disk: Callable[..., Path]) -> None:
    place = bench.place("cifar", f"read-only-{setting}", **{setting: str(disk(100_000, "ro"))})
    process = place.start()
    process.join()
    log = place.log.read_text(encoding="utf-8")
    assert process.exitcode == 1 and f"{setting} {disk(100_000)}: cannot be written to" in log and not place.steps()
