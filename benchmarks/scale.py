"""Preparing, embedding and scoring on 1 and 2 worker processes, and Prefect's share of the time of a shard.

    python benchmarks/scale.py [--count 8192] [--workers 1 2] [--shards 1000] [--weights FILE]

``--count`` images are drawn; each number of ``--workers`` is a Dask cluster of so many processes of one core each,
with a store of its own, whose start is part of the first step; each run is repeated, when all of its steps come from
the cache. Last, ``--shards`` shards in which next to nothing is done are run by this process. Figures are of one run.
--quick: few images of 32 px, and 20 shards; the figures mean nothing.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import tasks  # isort: skip  # noqa: F401  # before Prefect, which reads at its import what this sets
from distributed import Client, LocalCluster, Worker
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from benchmarks.harness import describe_conditions, parse, publish_tiles, working_folder, write_tiles
from cnn.data.sample import write_sample
from cnn.networks.architectures import PRETRAINED
from cnn.serving.shards import cut
from cnn.support.backend import CPU
from cnn.support.commandline import run
from tasks import fetching, preparing, scoring
from tasks.runners import run_shards, running_on

STEPS = ("prepare", "embed", "score")
_SCORED_TOGETHER = 1024  # images at most


def seconds_of_steps(options: argparse.Namespace, models: Path, store: Path, runner: str) -> list[float]:
    """Seconds to prepare, to embed and to score the images."""

    @flow
    def steps() -> list[float]:
        with running_on(runner):
            source, weights = fetching.open_data(options.data), fetching.open_weights(options.weights, PRETRAINED)
            times = [time.monotonic()]
            dataset = preparing.prepare(source, labels=None, test_as_validation=False, store=store)
            times.append(time.monotonic())
            preparing.embed(dataset, weights, PRETRAINED, False, CPU, store)
            times.append(time.monotonic())
            version = scoring.choose_version(models, None, "cpu", False)
            scoring.score(cut(options.data, _SCORED_TOGETHER), version, provider="cpu", int8=False, store=store)
            times.append(time.monotonic())
        return [end - begin for begin, end in pairwise(times)]

    return steps()


def stay_on_a_core(dask_worker: Worker) -> None:
    """Let a worker, which has a thread that decodes and one that computes, use one core and no more."""
    cores = sorted(os.sched_getaffinity(0))
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {cores[int(dask_worker.name) % len(cores)]})


def seconds_of_shards(count: int, folder: Path) -> float:
    """Seconds of a shard in which next to nothing is done: the names of six images are read."""
    shards = [{"path": write_tiles(folder / str(number), 1)} for number in range(count)]

    @flow
    def steps() -> float:
        begin = time.monotonic()
        with running_on("threads"):
            run_shards(fetching.open_data, shards, "opening")
        return (time.monotonic() - begin) / count

    return steps()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all of it, the fewest workers first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=8192)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shards", type=int, default=1000)
    options = parse(parser, arguments, paths=["weights"], count=0, workers=[1], shards=20)
    print(describe_conditions(1, [0]))
    print(f"| workers | {' | '.join(f'{name}, s' for name in STEPS)} |\n|{'---|' * (1 + len(STEPS))}")
    with working_folder(options) as folder:
        options.data = write_tiles(folder / "tiles", 8)
        models = publish_tiles(options, folder)
        if options.count:
            options.data = folder / "drawn.zip"
            write_sample(options.data, seed=0, count=options.count)
        scored = [measure(options, models, folder / str(workers), workers) for workers in sorted(options.workers)]
        prefect = seconds_of_shards(options.shards, folder / "many")
        share = prefect / (scored[0] * min(options.workers) / len(cut(options.data, _SCORED_TOGETHER)))
        print(f"\nA shard of next to no work takes {prefect:.3f} s, {share:.1%} of one that is scored.")


def measure(options: argparse.Namespace, models: Path, store: Path, workers: int) -> float:
    """Print a row of seconds, and one of a second run; returns the seconds of the first one's scoring."""
    scored = []
    one_core = {"OMP_NUM_THREADS": "1"}
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0", env=one_core) as cluster:
        with Client(cluster, set_as_default=False) as client:
            client.run(stay_on_a_core)
        for kind in ("", " again"):
            seconds = seconds_of_steps(options, models, store, f"dask:{cluster.scheduler_address}")
            print(f"| {workers}{kind} | {' | '.join(f'{each:.1f}' for each in seconds)} |", flush=True)
            scored.append(seconds[-1])
    return scored[0]


if __name__ == "__main__":
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_API_URL: PREFECT_API_URL.value()}),
    ):
        run(main)
