"""Is drift seen: how many new images are unlike half of the data, and how do the means of the features differ?

    python benchmarks/drift.py --data FOLDER --weights FILE

Half of the images are known, drawn anew for each of --seeds; of the new ones, 20 or 100 are others of the data, of its
first class only, a tenth drawn, or all drawn (`sample`, seed 0). --quick: tiny drawn data; the figures mean nothing.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import describe_conditions, parse, working_folder
from cnn.data.preparation import prepare
from cnn.data.sample import write_sample
from cnn.evaluation.drift import mean_distance
from cnn.evaluation.embedded import Embedded
from cnn.support.commandline import run
from cnn.training.checkpoints import pretrained
from cnn.training.novelty import Novelty, directions

Features = NDArray[np.float32]


def compare(known: Features, new: Features, seed: int) -> tuple[float, float]:
    """The share of new images, (m, channels), that are novel beside those known, (n, channels), and the p value."""
    novelty = Novelty.fit(known, seed)
    return float(novelty.is_novel(new).mean()), mean_distance(novelty.known, directions(new))[1]


def new_images(photos: Embedded, drawn: Features, count: int, seed: int) -> Iterator[tuple[str, Features, Features]]:
    """For each kind of new images its name, the features that are known, and those of ``count`` new ones."""
    rng = np.random.default_rng(seed)
    known, others = np.array_split(rng.permutation(len(photos.labels)), 2)
    features, sample = photos.features, drawn[rng.permutation(len(drawn))[:count]]
    alike, tenth = features[others[:count]], count // 10
    yield "same kind", features[known], alike
    yield "one class", features[known], features[others[photos.labels[others] == 0][:count]]
    yield "a tenth drawn", features[known], np.concatenate([alike[tenth:], sample[:tenth]])
    yield "drawn", features[known], sample


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(20)))
    options = parse(parser, arguments, ["data", "weights"], seeds=[0])
    with working_folder(options, images=20) as folder:
        write_sample(folder / "sample.zip", 0)
        start = pretrained(options.weights)
        photos, drawn = (
            Embedded.of(prepare(source, folder / name), start, folder / f"{name} features")
            for name, source in (("photos", options.data), ("drawn", folder / "sample.zip"))
        )
        print(describe_conditions(len(options.seeds), options.seeds))
        print("| new images | n | unlike all, mean | most | p < .05 |")
        for count in (20, 100):
            found: dict[str, list[tuple[float, float]]] = {}
            for seed in options.seeds:
                for kind, known, new in new_images(photos, drawn.features, count, seed):
                    found.setdefault(kind, []).append(compare(known, new, seed))
            for kind, values in found.items():
                shares, ps = np.array(values).T
                print(f"| {kind} | {count} | {shares.mean():.3f} | {shares.max():.3f} | {(ps < 0.05).sum()} |")


if __name__ == "__main__":
    run(main)
