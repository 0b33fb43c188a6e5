"""What keeping features in less space costs: KB per view, GB for 20,000 pictures, F1.

    python benchmarks/feature_storage.py --data FOLDER --weights FILE [--views 1 2 4 8] [--seeds 3]

Every choice trains the tuned output block on the kept features of the training pictures. F1 is measured at full
resolution on the validation pictures, in as many splits by content as there are seeds; the test part is not touched.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cnn.backend import mx
from cnn.datasets import Dataset
from cnn.learner import Classes, Learner
from cnn.metrics import confusion_matrix, positive_class, scores
from cnn.models import transfer_model
from cnn.networks import compile_network, initialise, run_batches, set_parameters
from cnn.parallel import ordered_map
from cnn.pictures import CROP, decode, to_tensor, views
from cnn.preparation import prepare
from cnn.recipes import hotdog_recipe
from cnn.squeezenet import squeezenet
from cnn.training import learning_rate
from cnn.weights import read_weights

PICTURES = 20_000


def embed(dataset: Dataset, split: str, weights: Path, count: int) -> NDArray[np.float16]:
    """Features of a split at full resolution, (pictures, views, 512, 13, 13)."""
    net = initialise(squeezenet(2), CROP, [mx.cpu()], seed=0)
    set_parameters(net, read_weights(weights), prefix="features")
    features = compile_network(net.features)
    tensors = ordered_map(lambda row: to_tensor(views(decode(row.data), count, f"0 {row.id}")), dataset.rows(split))
    return np.stack([found.astype(np.float16) for found in run_batches(features, tensors, [mx.cpu()], count)])


def reduce(features: NDArray[np.float16], side: int) -> NDArray[np.float16]:
    """Average (n, views, 512, 13, 13) to ``side`` × ``side``."""
    flat = features.reshape(-1, *features.shape[2:])
    parts = [
        mx.nd.contrib.AdaptiveAvgPooling2D(mx.nd.array(part.astype(np.float32)), output_size=side).asnumpy()
        for part in np.array_split(flat, max(1, len(flat) // 64))
    ]
    return np.concatenate(parts).astype(np.float16).reshape(*features.shape[:3], side, side)


def f1_of(
    train: NDArray[np.float16],
    validation: NDArray[np.float16],
    labels: tuple,
    classes: Classes,
    weights: Path,
    seed: int,
) -> float:
    """F1 at full resolution after the tuned output stage on ``train``."""
    stage = hotdog_recipe("tuned", views=train.shape[1]).stages[0]
    model = transfer_model(stage, len(classes.names), read_weights(weights), [mx.cpu()], seed)
    learner = Learner(stage, classes, model, [mx.cpu()])
    chance, steps = np.random.default_rng(seed), len(train) * stage.views // stage.batch_size
    for epoch in range(stage.epochs):
        pairs = chance.permutation(len(train) * stage.views)
        for step in range(steps):
            picture, view = np.divmod(pairs[step * stage.batch_size :][: stage.batch_size], stage.views)
            batch = mx.nd.array(train[picture, view].astype(np.float32)), labels[0][picture]
            learner.step(batch, learning_rate(stage, (epoch + step / steps) / stage.epochs))
    outputs = learner.predict((mx.nd.array(validation[:, 0].astype(np.float32)), labels[1]))
    return scores(confusion_matrix(labels[1], outputs.argmax(1), len(classes.names)), classes.positive)["f1"]


def main() -> None:
    """Embed once at full resolution, then measure every choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--sides", type=int, nargs="+", default=[13, 7, 4])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        dataset = prepare(options.data, Path(name) / "dataset")
        full = np.concatenate(
            [embed(dataset, split, options.weights, max(options.views)) for split in ("train", "validation")]
        )
        truth = np.concatenate([dataset.ids_and_labels(split)[1] for split in ("train", "validation")])
    print(f"seeds 0–{options.seeds - 1}, {len(truth)} pictures, a fifth of them for validation")
    print(f"{'kept':>8}{'views':>7}{'KB a view':>11}{f'GB for {PICTURES:,}':>15}{'F1':>8}{'± s.e.':>8}")
    for side in options.sides:
        kept = full if side == 13 else reduce(full, side)
        sizes = [len(pa.compress(view.tobytes(), codec="zstd", asbytes=True)) for view in kept[::8, 0]]
        size = float(np.mean(sizes))
        for count in options.views:
            found = []
            for seed in range(options.seeds):
                chosen = np.random.default_rng(seed).permutation(len(truth)) < len(truth) // 5
                counts = tuple(np.bincount(truth[~chosen]))
                classes = Classes(dataset.classes, positive_class(dataset.classes, None), counts)
                labels = truth[~chosen], truth[chosen]
                train = kept[~chosen, :count]
                found.append(f1_of(train, full[chosen], labels, classes, options.weights, seed))
            error = np.std(found) / np.sqrt(len(found))
            total = size * count * PICTURES / 1e9
            kept_as = f"{side}×{side}"
            print(
                f"{kept_as:>8}{count:>7}{size / 1e3:>11.1f}{total:>15.2f}{np.mean(found):>8.3f}{error:>8.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
