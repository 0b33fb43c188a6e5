"""A disk of a test's own: small, or read-only."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a disk with so many KiB, or change it, also to read-only ("ro"); skips where that is not permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def mount(size: int, mode: str = "rw") -> Path:
        nonlocal mounted
        options = f"{'remount,' if mounted else ''}{mode},size={size}k"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=False)
        if done.returncode:
            pytest.skip("disks cannot be mounted here")
        mounted = True
        return place

    yield mount
    if mounted:
        subprocess.run(["umount", str(place)], check=True)
