"""What keeping features in less space costs: KB per view, GB for 20,000 images, F1.

    python benchmarks/feature_storage.py --data FOLDER --weights FILE [--sides 13 7 4] [--views 1 2 4 8] [--seeds 0 1 2]

Features are kept as they come (13 × 13) or averaged to fewer values, as float16, compressed. On those of the training
images the output block is trained as in recipe ``tuned``; F1 is measured at full resolution on a fifth of the images,
another fifth for each seed. The mean over the seeds comes with its standard error. The test split is not used.
--quick: one seed, two sides, 32 drawn images, random weights; the figures mean nothing.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import describe_conditions, parse, working_folder
from cnn.data.datasets import Dataset
from cnn.data.images import decode, to_tensor, views
from cnn.data.preparation import prepare
from cnn.networks.running import compile_network, run_batches
from cnn.networks.weights import read_weights
from cnn.support.backend import mx
from cnn.support.commandline import run
from cnn.support.parallel import ordered_map
from cnn.training.checkpoints import Arrays
from cnn.training.learner import Classes, Learner
from cnn.training.loop import learning_rate
from cnn.training.metrics import confusion_matrix, positive_class, scores
from cnn.training.recipes import hotdog_recipe
from cnn.training.transfer import transfer_model

IMAGES = 20_000
STAGE = hotdog_recipe("tuned").stages[0]
Features = NDArray[np.float16]


def embed(dataset: Dataset, weights: Arrays, count: int) -> tuple[Features, NDArray[np.int64]]:
    """Features of the training and validation images, (images, count, 512, 13, 13), and their labels, (images,)."""
    network = compile_network(transfer_model(STAGE, 2, weights, seed=0).net.features)
    rows = (row for split in ("train", "validation") for row in dataset.rows(split))
    tensors = ordered_map(lambda row: to_tensor(views(decode(row.data), count, f"0 {row.id}")), rows)
    features = [found.astype(np.float16) for found in run_batches(network, tensors, count)]
    labels = [dataset.ids_and_labels(split)[1] for split in ("train", "validation")]
    return np.stack(features), np.concatenate(labels)


def reduce(features: Features, side: int) -> Features:
    """Average (n, views, 512, 13, 13) to ``side`` × ``side``."""
    flat = features.reshape(-1, *features.shape[2:])
    parts = [
        mx.nd.contrib.AdaptiveAvgPooling2D(mx.nd.array(part.astype(np.float32)), output_size=side).asnumpy()
        for part in np.array_split(flat, max(1, len(flat) // 64))
    ]
    return np.concatenate(parts).astype(np.float16).reshape(*features.shape[:3], side, side)


def train(learner: Learner, features: Features, labels: NDArray[np.int64], seed: int) -> None:
    """Train on features, (images, views, 512, side, side), each view once an epoch."""
    rng, (images, count) = np.random.default_rng(seed), features.shape[:2]
    steps = images * count // STAGE.batch_size
    for epoch in range(STAGE.epochs):
        pairs = rng.permutation(images * count)
        for step in range(steps):
            image, view = np.divmod(pairs[step * STAGE.batch_size :][: STAGE.batch_size], count)
            batch = mx.nd.array(features[image, view].astype(np.float32)), labels[image]
            learner.step(batch, learning_rate(STAGE, (epoch + step / steps) / STAGE.epochs))


def main(arguments: Sequence[str] | None = None) -> None:
    """Embed once at full resolution, then measure every choice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--sides", type=int, nargs="+", default=[13, 7, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parse(parser, arguments, ["data", "weights"], views=[2], sides=[13, 7], seeds=[0])
    with working_folder(options, images=8) as folder:
        dataset, weights = prepare(options.data, folder / "dataset"), read_weights(options.weights)
        full, labels = embed(dataset, weights, max(options.views))
    names, positive = dataset.classes, positive_class(dataset.classes, None)

    def f1(kept: Features, seed: int) -> float:
        chosen = np.random.default_rng(seed).permutation(len(labels)) < len(labels) // 5
        classes = Classes(names, positive, tuple(np.bincount(labels[~chosen])))
        learner = Learner(STAGE, classes, transfer_model(STAGE, len(names), weights, seed))
        train(learner, kept[~chosen], labels[~chosen], seed)
        outputs = learner.predict((mx.nd.array(full[chosen, 0].astype(np.float32)), labels[chosen]))
        return scores(confusion_matrix(labels[chosen], outputs.argmax(1), len(names)), positive).f1

    print(f"{describe_conditions(len(options.seeds), options.seeds)}, {len(labels)} images, a fifth for validation")
    print(f"{'kept':>8}{'views':>7}{'KB a view':>11}{f'GB for {IMAGES:,}':>15}{'F1':>8}{'± s.e.':>8}")
    for side in options.sides:
        kept = full if side == 13 else reduce(full, side)
        size = np.mean([len(pa.compress(view.tobytes(), codec="zstd", asbytes=True)) for view in kept[::8, 0]])
        for count in options.views:
            found = [f1(kept[:, :count], seed) for seed in options.seeds]
            error, total = np.std(found) / np.sqrt(len(found)), size * count * IMAGES / 1e9
            figures = f"{size / 1e3:>11.1f}{total:>15.2f}{np.mean(found):>8.3f}{error:>8.3f}"
            print(f"{f'{side}×{side}':>8}{count:>7}{figures}", flush=True)


if __name__ == "__main__":
    run(main)
