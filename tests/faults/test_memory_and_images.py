"""A run whose memory does not suffice, and data of which one image in a hundred is damaged."""

import resource
import shutil
from pathlib import Path

import pytest
from conftest import write_images
from disturbed import FLOWS, Bench, Place, bench  # noqa: F401  (a fixture)


def address_space(pid: int) -> int:
    """Bytes of memory that a process has asked for."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()


@pytest.mark.long
@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("more", [20, 60, 150, 400])
def test_run_out_of_memory_loses_nothing(more: int, flow: str, bench: Bench) -> None:
    bench.undisturbed(flow)
    place = bench.place(flow, f"{flow}-memory-{more}")
    process = place.start()
    assert process.pid
    limit = address_space(process.pid) + more * 1_000_000
    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
    process.join(120)
    process.kill()  # where not even a thread can be started, Python waits for it for ever
    process.join()
    sentence = "There is not enough memory" in place.log.read_text(encoding="utf-8")
    print(f"\n{place.folder.name}: exit {process.exitcode}, sentence: {sentence}, after {list(place.steps())}")
    assert place.champion() in ("v0001", "v0002")
    place.run()
    bench.check(place)


@pytest.mark.long
def test_one_image_in_a_hundred_damaged_changes_nothing_else(bench: Bench, tmp_path: Path) -> None:
    for split, count, first in (("train", 60, 0), ("validation", 20, 100), ("test", 20, 200)):
        write_images(tmp_path / "whole" / split, count, first)
    damaged = shutil.copytree(tmp_path / "whole", tmp_path / "damaged")
    for split in ("train", "test"):
        victim = next((damaged / split / "hotdog").iterdir())
        (tmp_path / "whole" / split / "hotdog" / victim.name).unlink()
        victim.write_bytes(victim.read_bytes()[:500])
    outcomes = []
    for data in ("whole", "damaged"):
        place = bench.place("cifar", f"{data}-images", data=str(tmp_path / data))
        place.run()
        outcomes.append(place.outcome())
    assert outcomes[0] == outcomes[1]
    assert "Images left out: 2" in place.log.read_text(encoding="utf-8")
