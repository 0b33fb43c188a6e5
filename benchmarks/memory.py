"""Peak memory and disk of the whole flow at growing numbers of drawn pictures.

    python benchmarks/memory.py [--counts 2000 20000] [--epochs 1]

Each size runs in a process of its own, from a zip to a published version, from seeded random features.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cnn.sample import write_sample


def disk(folder: Path) -> float:
    """GB under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def main() -> None:
    """Run the flow at each size; peaks are of the largest single process so far, so sizes must grow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    print(f"{'pictures':>9}{'minutes':>9}{'peak memory, GiB':>18}{'features, GB':>14}{'store, GB':>11}", flush=True)
    for count in sorted(options.counts):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_sample(folder / "drawn.zip", seed=0, count=count)
            begin = time.monotonic()
            command = [sys.executable, str(ROOT / "flows" / "hotdog.py"), "--weights", "random"]
            command += ["--data", str(folder / "drawn.zip"), "--epochs", str(options.epochs)]
            command += ["--store", str(folder / "store"), "--models", str(folder / "models")]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            minutes = (time.monotonic() - begin) / 60
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            sizes = disk(folder / "store" / "features"), disk(folder / "store")
            print(f"{count:>9,}{minutes:>9.1f}{peak:>18.2f}{sizes[0]:>14.2f}{sizes[1]:>11.2f}", flush=True)


if __name__ == "__main__":
    main()
