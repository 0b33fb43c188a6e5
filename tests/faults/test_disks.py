"""Disks that are full at each step that writes, or read-only: a sentence, and the next run ends as an undisturbed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from disks import disk  # noqa: F401  (a fixture)
from disturbed import FLOWS, Bench, bench  # noqa: F401  (a fixture)

#: The folders of the store in the order in which a run fills them.
WRITTEN = {
    "hotdog": ("datasets", "features", "training", "reports"),
    "cifar": ("datasets", "pixels", "training", "reports", "comparisons"),
    "score": ("scores",),
}
PAGE = 4  # KiB


def pages(folder: Path) -> int:
    """KiB that the files and folders in a folder take on a disk of its own."""
    return sum(PAGE * -(-path.stat().st_size // (PAGE * 1024)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("flow", FLOWS)
def test_full_disk_at_each_step_loses_nothing(flow: str, bench: Bench, disk: Callable[..., Path]) -> None:
    bench.undisturbed(flow)
    stored = bench.folder / f"undisturbed-{flow}" / "store"
    place = bench.place(flow, f"{flow}-full", store=str(disk(PAGE)))
    before, stopped = PAGE, []
    for kind in WRITTEN[flow]:
        here = pages(stored / kind)
        disk(before + max(PAGE, here // 2 // PAGE * PAGE))
        process = place.start()
        process.join()
        log = place.log.read_text(encoding="utf-8")
        assert process.exitcode == 1 and "the disk is full" in log and "Traceback" not in log
        assert place.champion() == "v0001"
        stopped.append(next(step for step in bench.steps[flow] if step not in place.steps()))
        before += here
    print(f"\n{place.folder.name}: {stopped}")
    assert len(set(stopped)) == len(WRITTEN[flow])
    disk(100_000)
    place.run()
    bench.check(place)


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["store", "models"])
def test_read_only_disk_is_refused_before_any_work(setting: str, bench: Bench, disk: Callable[..., Path]) -> None:
    place = bench.place("cifar", f"read-only-{setting}", **{setting: str(disk(100_000, "ro"))})
    process = place.start()
    process.join()
    log = place.log.read_text(encoding="utf-8")
    assert process.exitcode == 1 and f"{setting} {disk(100_000)}: cannot be written to" in log and not place.steps()
