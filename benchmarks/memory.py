"""Peak memory and disk of the whole hotdog flow at growing numbers of drawn images.

    python benchmarks/memory.py [--counts 2000 20000]

Each size runs in a process of its own, from a zip to a published version, from random features and
seed 0. The peak is that of the largest process so far. --quick: 40 images; the figures mean
nothing.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.harness import describe_conditions, parse, working_folder
from cnn.data.sample import write_sample
from cnn.support.commandline import run
from cnn.support.files import folder_size


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the flow at each size, the smallest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--views", type=int, default=2)
    options = parse(parser, arguments, counts=[40])
    print(describe_conditions(1, [0]))
    print(f"{'images':>9}{'minutes':>9}{'peak memory, GiB':>18}{'features, GB':>14}{'store, GB':>11}", flush=True)
    for count in sorted(options.counts):
        with working_folder(options) as folder:
            data, store = folder / "drawn.zip", folder / "store"
            write_sample(data, seed=0, count=count)
            begin = time.monotonic()
            command = [sys.executable, str(ROOT / "flows" / "hotdog.py"), "--weights", "random"]
            command += ["--data", str(data), "--store", str(store), "--models", str(folder / "models")]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            minutes = (time.monotonic() - begin) / 60
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            features, whole = (folder_size(path) / 1e9 for path in (store / "features", store))
            print(f"{count:>9,}{minutes:>9.1f}{peak:>18.2f}{features:>14.2f}{whole:>11.2f}", flush=True)


if __name__ == "__main__":
    run(main)
