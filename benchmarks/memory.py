"""Peak memory and disk of each step of the hotdog flow at growing numbers of drawn images, and a second run of them.

    python benchmarks/memory.py [--counts 2000 20000 100000]

Each size runs in a process of its own, from a folder of images of 64 px to a published version, from
random features and seed 0; then the same command runs again, and nothing has changed. Without the start
of Python and of Prefect. The last row is what a run without changes cannot do without. A step's peak is
the process's while it ran: Linux resets it where 5 is written to clear_refs.
--quick: 48 images; the figures mean nothing.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image

from benchmarks.harness import describe_conditions, parse, working_folder
from cnn.data.sample import CLASSES, SIZE, draw
from cnn.support.commandline import run
from cnn.support.files import folder_size

_TILE = 64  # px: 16 of a drawing
_SHARD = re.compile(r" shard \d+ of (\d+)")
#: As Prefect logs it.
_BEGINS, _ENDS = "Beginning flow run", re.compile(r"(?:Task run '(.*)'|Flow run) .*- Finished in state (\w+)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the flow at each size, the smallest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 20000, 100000])
    options = parse(parser, arguments, counts=[48])
    print(describe_conditions(1, [0]))
    for count in sorted(options.counts):
        with working_folder(options) as folder:
            write_images(folder / "drawn", count)
            print(f"\n| {count:,} images | seconds | peak memory, MiB | written, bytes an image |\n|---|---|---|---|")
            for which in ("first", "second"):
                for step, rows in groupby(run_flow(folder), lambda row: _SHARD.sub(r" \1 shards", row[0])):
                    _, times, peaks, sizes = zip(*rows, strict=True)
                    figures = f"{sum(times):.1f} | {max(peaks)} | {sum(sizes) / count:,.0f}"
                    print(f"| {which} run, {step} | {figures} |", flush=True)
            seconds = seconds_of_listing(folder / "drawn")
            print(f"| names, sizes and times of the files | {seconds:.1f} | | |", flush=True)


def write_images(folder: Path, count: int) -> None:
    """Write so many images of 64 px, cut out of drawn ones, half of them of each class."""
    side, each = SIZE // _TILE, count // len(CLASSES)
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for number in range(each):
            drawing, tile = divmod(number, side**2)
            if tile == 0:
                tiles = draw(label, 0, drawing).reshape(side, _TILE, side, _TILE, 3).swapaxes(1, 2)
            image = tiles.reshape(-1, _TILE, _TILE, 3)[tile]
            Image.fromarray(image).save(folder / label / f"{number:06}.jpg", quality=90)


def seconds_of_listing(folder: Path) -> float:
    """Seconds to find all files in a folder and to ask the system about each."""
    begin = time.monotonic()
    for path in folder.rglob("*"):
        path.stat()
    return time.monotonic() - begin


def run_flow(folder: Path) -> Iterator[tuple[str, float, int, int]]:
    """Run the flow; of each of its steps, and of the whole: the name, seconds, peak memory in MiB, bytes it wrote."""
    places = [folder / "store", folder / "models"]
    command = [sys.executable, str(ROOT / "flows" / "hotdog.py"), "--weights", "random", "--name", "drawn"]
    command += ["--data", str(folder / "drawn"), "--store", str(places[0]), "--models", str(places[1])]
    begin = last = highest = 0.0
    first = size = written(places)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if _BEGINS in line:
                begin = last = time.monotonic()
            if ended := _ENDS.search(line):
                highest, now, before = max(highest, peak := peak_memory(process.pid)), time.monotonic(), size
                size = written(places)
                if ended[1]:
                    yield f"{ended[1]}: {ended[2]}", now - last, peak, size - before
                last = time.monotonic()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    yield "all steps", last - begin, int(highest), size - first


def written(places: Sequence[Path]) -> int:
    """Bytes in these folders, of those that are there."""
    return sum(folder_size(place) for place in places if place.exists())


def peak_memory(process: int) -> int:
    """MiB that a process had at most since this was last asked; 0 if it has ended."""
    with suppress(OSError):
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
        Path(f"/proc/{process}/clear_refs").write_text("5", encoding="utf-8")
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) >> 10
    return 0


if __name__ == "__main__":
    run(main)
