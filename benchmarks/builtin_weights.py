"""The built-in features: how they were made, and what they are worth beside random and ImageNet's.

    python benchmarks/builtin_weights.py make --data CIFAR_FOLDER
    python benchmarks/builtin_weights.py compare --photos FOLDER --imagenet FILE [--seeds 0 1 2]

``make`` trains SqueezeNet 1.1 by the CIFAR flow (without the official test batch, the last training batch is held out),
writes its parameters as float16 into the project, and prints their accuracy and digest, which belong into
`cnn/catalog.py`. ``compare`` runs the hotdog flow on the drawn sample and on photos that have a test part, from each
set of features, and prints a table of F1 and accuracy on the test pictures.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cnn.catalog import BUILTIN
from cnn.checkpoints import save_parameters
from cnn.files import file_digest
from cnn.weights import read_weights
from flows.cifar import CifarSettings, cifar
from flows.hotdog import HotdogSettings, hotdog


def make(data: str, folder: Path) -> None:
    """Train, and replace the file that the catalog names."""
    settings = CifarSettings(data=data, architectures=("squeezenet",), store=folder / "store", models=folder / "models")
    version = cifar(settings).path
    manifest = json.loads((version / "manifest.json").read_text())
    values = read_weights(version / "squeezenet.params")
    file = Path(BUILTIN.addresses[0])
    save_parameters(file, {name: value.astype(np.float16) for name, value in values.items()})
    print(f"{file}: {file.stat().st_size} bytes, sha256 {file_digest(file)}")
    print({split: f"accuracy {metrics['accuracy']:.3f}" for split, metrics in manifest["metrics"].items()})
    print(*manifest["notes"])


def scores(data: str, weights: str, seed: int, folder: Path) -> dict[str, float]:
    """Metrics of the hotdog flow's defaults on the test pictures."""
    settings = HotdogSettings(
        data=data, weights=weights, seed=seed, store=folder / "store", models=folder / "models", name="compared-sample"
    )
    manifest = json.loads((hotdog(settings).path / "manifest.json").read_text())
    return manifest["metrics"]["test"]


def compare(photos: str, imagenet: str, seeds: list[int], folder: Path) -> None:
    """Print the table."""
    headers = (f"{metric} on the {data}" for data in ("sample", "photos") for metric in ("F1", "accuracy"))
    print(f"| features | {' | '.join(headers)} |\n|---|---|---|---|---|")
    for name, weights in (("random", "random"), ("built-in", "builtin"), ("ImageNet's", imagenet)):
        cells = []
        for data in ("sample", photos):
            found = [scores(data, weights, seed, folder) for seed in seeds]
            for metric in ("f1", "accuracy"):
                figures = [each[metric] for each in found]
                cells.append(f"{np.mean(figures):.3f} ({', '.join(f'{figure:.3f}' for figure in figures)})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Make or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make")
    maker.add_argument("--data", default="cifar10")
    comparer = commands.add_parser("compare")
    comparer.add_argument("--photos", required=True)
    comparer.add_argument("--imagenet", required=True)
    comparer.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.command == "make":
            make(options.data, Path(name))
        else:
            compare(options.photos, options.imagenet, options.seeds, Path(name))


if __name__ == "__main__":
    main()
