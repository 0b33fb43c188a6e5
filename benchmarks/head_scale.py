"""A head whose features do not fit in memory, and what a hundred million images would take.

    python benchmarks/head_scale.py --data FOLDER --weights FILE [--images 1000000]

Drawn features of --images (512 channels, seed 0, in a file) are solved in blocks: seconds, passes and peak memory; of a
part of them the head is compared with scikit-learn's. Preparing and embedding are measured on --data. The last table
multiplies what an image took. --quick: tiny drawn data; the figures mean nothing.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import describe_conditions, parse, working_folder
from cnn.data.preparation import prepare
from cnn.support.commandline import run
from cnn.support.files import folder_size
from cnn.training.checkpoints import pretrained
from cnn.training.features import embed
from cnn.training.head import KEPT, MEASURED, Floats, Head, Indices, folds_of, solve_head, unscaled
from cnn.training.hyperparameters import HeadStage
from cnn.training.partial_sums import solve_in_blocks

CHANNELS, STAGE = 512, HeadStage(strengths=(0.01,))
_MANY, _WORKERS, _DAY = 100_000_000, (1, 10, 100), 86_400


@dataclass(frozen=True)
class Cost:
    """What a step takes for an image: bytes read, seconds of one core, bytes kept."""

    read: float
    seconds: float
    kept: float


class FeatureFile:
    """Drawn features (n, 512) in a file, read by range; ``reads`` tells how many bytes."""

    def __init__(self, path: Path, images: int, seed: int = 0) -> None:
        self.path, self.reads, rng = path, list[int](), np.random.default_rng(seed)
        self.labels = rng.integers(0, 2, images)
        mixing = 0.1 * rng.normal(size=(64, CHANNELS)).astype(np.float32)
        with path.open("wb") as file:
            for labels in np.split(self.labels, range(8192, images, 8192)):
                hidden = rng.standard_normal((len(labels), 64), np.float32) + 0.1 * labels[:, None].astype(np.float32)
                noise = 0.3 * rng.standard_normal((len(labels), CHANNELS), np.float32)
                np.maximum(0, hidden @ mixing + noise).tofile(file)

    def load(self, images: Indices) -> Any:
        """Features (n, 512) of these images, in ascending order."""
        first, count = int(images[0]), int(images[-1] - images[0]) + 1
        values = np.fromfile(self.path, np.float32, count * CHANNELS, offset=4 * first * CHANNELS)
        self.reads.append(values.nbytes)
        return values.reshape(count, CHANNELS)[images - first]


def measured(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one core that ``action`` takes, and what it returns."""
    begin = time.process_time()
    result = action()
    return time.process_time() - begin, result


def solve_all(file: FeatureFile) -> Cost:
    """Solve the head of all images, and of those of one fold, in blocks; prints seconds, passes and peak memory."""
    images = len(file.labels)
    few = np.arange(2_000)  # in random order anyway
    start = solve_head(file.load(few), file.labels[few], STAGE)
    fold = folds_of(file.labels, STAGE, seed=0)[0][0]
    read, seconds = 0, 0.0
    for name, chosen, tolerance, times in (
        ("the head", np.arange(images), KEPT, 1),
        ("of one fold", fold, MEASURED, STAGE.folds),
    ):
        file.reads.clear()
        begin = time.monotonic()
        cores, _ = measured(partial(solve_in_blocks, start, file.load, file.labels, chosen, STAGE, tolerance))
        passes = sum(file.reads) / (4 * CHANNELS * images)
        print(
            f"{name}: {len(chosen):,} images, {passes:.0f} passes, {time.monotonic() - begin:.0f} s, "
            f"{1e6 * cores / passes / len(chosen):.2f} microseconds of a core an image and pass"
        )
        read, seconds = read + times * sum(file.reads), seconds + times * cores
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"features {folder_size(file.path) / 2**20:,.0f} MiB, peak memory {peak:,.0f} MiB")
    return Cost(read / images, seconds / images, 8 * start.held_out.shape[1])


def compare(file: FeatureFile, images: int) -> float:
    """The greatest difference of a standardised weight from scikit-learn's, for the first so many images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    chosen, (strength,) = np.arange(images), STAGE.strengths
    features, labels = file.load(chosen), file.labels[:images]
    nothing = Head(np.zeros((2, CHANNELS)), np.zeros(2), (), strength, np.zeros((images, 2)))
    weight, _ = solve_in_blocks(nothing, file.load, file.labels, chosen, STAGE)
    scaler = StandardScaler()
    values = scaler.fit_transform(features.astype(np.float64))
    regression = LogisticRegression(
        C=1 / (strength * images), class_weight=STAGE.class_weights, tol=1e-10, max_iter=10_000
    )
    with threadpool_limits(1):
        expected: tuple[Floats, Floats] = unscaled(scaler, regression.fit(values, labels).coef_, regression.intercept_)
    return float(np.abs((weight - expected[0]) * scaler.scale_).max())


def of_images(data: Path, weights: Path, folder: Path) -> dict[str, Cost]:
    """What preparing and embedding take for an image of ``data``."""
    seconds, dataset = measured(partial(prepare, data, folder / "dataset"))
    images, kept = sum(sum(split.values()) for split in dataset.counts.values()), folder_size(folder / "dataset")
    start = pretrained(weights)
    embed(dataset, start, folder / "test", splits=["test"])  # imports MXNet and plans the network
    embedding, embedded = measured(partial(embed, dataset, start, folder / "train", splits=["train"]))
    return {
        "prepare": Cost(folder_size(data) / images, seconds / images, kept / images),
        "embed": Cost(kept / images, embedding / embedded, folder_size(folder / "train") / embedded),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was measured, and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    options = parse(parser, arguments, ["data", "weights"], images=3_000)
    with working_folder(options, images=20) as folder:
        print(describe_conditions(1, [0]))
        file = FeatureFile(folder / "features", options.images)
        head = solve_all(file)
        part = min(20_000, options.images)
        print(f"greatest difference from scikit-learn's weights, {part:,} images: {compare(file, part):.1e}")
        (folder / "features").unlink()
        costs = of_images(options.data, options.weights, folder) | {"head": head}
    days = " | ".join(f"{count} core{'s' * (count > 1)}, days" for count in _WORKERS)
    print(f"| step | bytes read | ms of a core | bytes kept | of 1e8 images: TB read | TB kept | {days} |")
    for step, cost in costs.items():
        times = " | ".join(f"{_MANY * cost.seconds / _DAY / count:.2f}" for count in _WORKERS)
        many = f"{_MANY * cost.read / 1e12:.1f} | {_MANY * cost.kept / 1e12:.2f}"
        print(f"| {step} | {cost.read:,.0f} | {1000 * cost.seconds:.2f} | {cost.kept:,.0f} | {many} | {times} |")


if __name__ == "__main__":
    run(main)
