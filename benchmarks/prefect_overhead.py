"""What orchestration costs: seconds from the command to the first task, and milliseconds that Prefect adds per task.

    python benchmarks/prefect_overhead.py [--repeats 3] [--tasks 50]

``python flows/hotdog.py`` is started on a zip of eight pictures and stopped when its first task, which only reads
them, has ended: with a Prefect that was never started before, with one that was, and with a server that is running.
Then a flow of tasks that do nothing is run twice: the second time all of them come from the cache.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import prefect
from prefect.testing.utilities import prefect_test_harness

from cnn.files import Reference
from cnn.sample import write_sample
from tasks.steps import step

PORT = 4299


def seconds_to_first_task(data: Path, environment: dict[str, str]) -> float:
    """Start the flow, and stop it when its first task has ended."""
    command = [sys.executable, "flows/hotdog.py", "--data", str(data), "--weights", "random"]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        places = ["--store", f"{folder}/store", "--models", f"{folder}/models"]
        with subprocess.Popen(command + places, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as run:
            assert run.stderr
            for line in run.stderr:
                if "Finished in state" in line:
                    seconds = time.monotonic() - begin
                    run.send_signal(signal.SIGINT)  # it also ends Prefect's server, which a SIGTERM leaves behind
                    run.communicate()
                    return seconds
    raise RuntimeError("the flow ended before its first task")


def seconds_to_import(statement: str) -> float:
    """How long a new Python takes to run an import."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True)
    return time.monotonic() - begin


@contextmanager
def server(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a client of a Prefect server that runs while the block does."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(PORT)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout
        next(line for line in run.stdout if "Check out the dashboard" in line)
        try:
            yield environment | {"PREFECT_API_URL": f"http://127.0.0.1:{PORT}/api"}
        finally:
            run.terminate()


@step("task {number}")
def nothing(number: int, file: Path) -> Reference:
    """Refer to a small file."""
    return Reference.to(file, "file")


@prefect.flow
def milliseconds_per_task(tasks: int, file: Path) -> float:
    """Call the task so many times."""
    begin = time.monotonic()
    for number in range(tasks):
        nothing(number, file)
    return 1000 * (time.monotonic() - begin) / tasks


def main() -> None:
    """Measure and print."""
    import benchmarks.prefect_overhead as itself  # a task's code is looked up by the name of its module

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, figures = Path(name), dict[str, list[float]]()
        write_sample(folder / "sample.zip", seed=0, count=8)
        for number in range(options.repeats):
            for statement in ("import prefect.flows", "import flows.hotdog"):
                figures.setdefault(f"`{statement}`, s", []).append(seconds_to_import(statement))
            home = os.environ | {"PREFECT_HOME": str(folder / f"home{number}")}
            for start in ("cold", "warm"):
                figures.setdefault(f"first task, {start}, s", []).append(
                    seconds_to_first_task(folder / "sample.zip", home)
                )
            with server(home) as client:
                figures.setdefault("first task, a server is running, s", []).append(
                    seconds_to_first_task(folder / "sample.zip", client)
                )
        with prefect_test_harness(server_startup_timeout=120):
            itself.milliseconds_per_task(1, folder)  # what only the first flow of a process takes
            for number in range(options.repeats):
                file = folder / f"{number}.txt"
                file.write_text(str(number))
                for what in ("that runs", "from the cache"):
                    figures.setdefault(f"a task {what}, ms", []).append(
                        itself.milliseconds_per_task(options.tasks, file)
                    )
    print(f"n {options.repeats}, median (lowest to highest), {os.cpu_count()} CPUs\n")
    for what, values in figures.items():
        print(f"| {what} | {statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g}) |")


if __name__ == "__main__":
    main()
