"""What orchestration costs: seconds from the command to the end of the first task, and milliseconds per task.

    python benchmarks/prefect_overhead.py [--repeats 3] [--tasks 50]

``python flows/hotdog.py`` is started on a folder of six images and stopped when its first task, which only reads their
names, has ended: with a Prefect that was never started before, with one that was, and with a server that is running.
Then that task is run for many such folders, twice: the second time all results come from the cache. Figures
are medians (lowest to highest). --quick: each once, and only a few tasks; the figures mean nothing.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tasks.fetching import open_data  # isort: skip  # before Prefect, which reads at its import what this sets
import prefect
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from benchmarks.harness import describe_conditions, parse, working_folder, write_tiles
from cnn.support.commandline import run
from cnn.support.errors import UserError


def seconds_to_first_task(data: Path, environment: Mapping[str, str]) -> float:
    """Start the flow, and stop it when its first task has ended.

    Raises:
        UserError: it ended before.
    """
    folder = data.parent
    command = [sys.executable, "flows/hotdog.py", "--data", str(data), "--weights", "random"]
    command += ["--store", str(folder / "store"), "--models", str(folder / "models")]
    begin = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if "Finished in state" in line:
                seconds = time.monotonic() - begin
                process.send_signal(signal.SIGINT)  # it also ends Prefect's server, which a SIGTERM leaves behind
                process.communicate()
                return seconds
    raise UserError(f"{' '.join(command)}: expected a task to end, found none: run it and read what it says.")


def seconds_to_import(module: str) -> float:
    """How long a new Python takes to import a module."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, check=True)
    return time.monotonic() - begin


@prefect.flow
def milliseconds_per_task(folders: Sequence[Path]) -> float:
    """Run the task for each folder."""
    begin = time.monotonic()
    for folder in folders:
        open_data(folder)
    return 1000 * (time.monotonic() - begin) / len(folders)


def measure(repeats: int, count: int, folder: Path) -> Iterator[tuple[str, float]]:
    """Every figure with what it is of, one after the other."""
    data = write_tiles(folder / "tiles", images=1)
    for number in range(repeats):
        for module in ("prefect.flows", "flows.hotdog"):
            yield f"`import {module}`, s", seconds_to_import(module)
        home = os.environ | {"PREFECT_HOME": str(folder / f"home{number}")}
        for start in ("cold", "warm"):
            yield f"first task, {start}, s", seconds_to_first_task(data, home)
    with prefect_test_harness(server_startup_timeout=120):
        client = os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value() or ""}
        for number in range(repeats):
            home = client | {"PREFECT_HOME": str(folder / f"home{number}")}
            yield "first task, a server is running, s", seconds_to_first_task(data, home)
        milliseconds_per_task([data])  # what only the first flow of a process takes
        for number in range(repeats):
            folders = [Path(shutil.copytree(data, folder / f"{number}-{each}")) for each in range(count)]
            for what in ("that runs", "from the cache"):
                yield f"a task {what}, ms", milliseconds_per_task(folders)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=50)
    options = parse(parser, arguments, repeats=1, tasks=2)
    figures = defaultdict[str, list[float]](list)
    with working_folder(options) as folder:
        for what, figure in measure(options.repeats, options.tasks, folder):
            figures[what].append(figure)
    print(f"{describe_conditions(options.repeats)}; median (lowest to highest)\n")
    for what, values in figures.items():
        print(f"| {what} | {statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g}) |")


if __name__ == "__main__":
    run(main)
