"""Which measure finds images that are unlike the training images?

    python benchmarks/novelty.py --data FOLDER --weights FILE --cifar FOLDER

FOLDER of --cifar holds data_batch_1.bin. Each measure calls 1 % of the training images novel, each of which is measured
by what is fitted without it. The first table, by which the measure was chosen, is of five folds of the training images
and of every other foreign image; the second of the test images and the other foreign images. --quick: drawn tiles; the
figures mean nothing.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cnn
from benchmarks.harness import describe_conditions, parse, working_folder
from cnn.data.images import center_view, keep_decoded, to_tensor
from cnn.data.sample import CLASSES, SIZE, draw
from cnn.networks.running import Runner
from cnn.support.backend import CPU
from cnn.support.commandline import run
from cnn.training.features import FeatureStore, embed, embedding_network
from cnn.training.novelty import Novelty

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
#: How far images are from the training images, (n,), by their features (n, channels).
Distance = Callable[[Features], NDArray[Any]]


def nearest(scaler: Normalizer | StandardScaler, features: Features, labels: Labels) -> Distance:
    """Euclidean distance from the nearest training image, after scaling; of unit vectors it orders as the cosine."""
    neighbours = NearestNeighbors(n_neighbors=1).fit(scaler.fit_transform(features))
    return lambda asked: neighbours.kneighbors(scaler.transform(asked))[0][:, 0]


def least_logit(features: Features, labels: Labels) -> Distance:
    """How unsure a logistic regression is."""
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=1000)).fit(features, labels)
    return lambda asked: -np.abs(fitted.decision_function(asked))


MEASURES: dict[str, Callable[[Features, Labels], Distance]] = {
    "nearest, Hellinger (this)": lambda features, labels: Novelty.fit(features).distances,
    "nearest, cosine": lambda features, labels: nearest(Normalizer(), features, labels),
    "nearest, standardised": lambda features, labels: nearest(StandardScaler(), features, labels),
    "maximum logit": least_logit,
}


def folds(labels: Labels, count: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Images to fit and images to measure."""
    yield from StratifiedKFold(count, shuffle=True, random_state=0).split(labels, labels)


def found(measure: Callable[[Features, Labels], Distance], known: Features, labels: Labels, *asked: Features) -> list:
    """Share of each of the sets of images that is called novel."""
    own = np.zeros(len(known))
    for fitted, left_out in folds(labels, 10):
        own[left_out] = measure(known[fitted], labels[fitted])(known[left_out])
    limit, distance = np.quantile(own, 0.99, method="higher"), measure(known, labels)
    return [float((distance(each) > limit).mean()) for each in asked]


def foreign(cifar: Path | None, count: int) -> Iterator[tuple[str, list[Image.Image]]]:
    """Kinds of images that are no photos of food, about ``count`` of each."""
    rng = np.random.default_rng(0)
    if cifar:
        records = np.fromfile(cifar / "data_batch_1.bin", np.uint8).reshape(-1, 3073)
        chosen = records[rng.choice(len(records), 4 * count, replace=False), 1:].reshape(-1, 3, 32, 32)
        yield "CIFAR-10", [Image.fromarray(each) for each in chosen.transpose(0, 2, 3, 1)]
    yield "drawn food", [Image.fromarray(draw(label, 0, index)) for label in CLASSES for index in range(count // 2)]
    noise = (rng.integers(0, 256, (side, side, 3), np.uint8) for side in (8, 32, SIZE) for _ in range(count // 5))
    yield "noise", [Image.fromarray(each).resize((SIZE, SIZE), Image.Resampling.NEAREST) for each in noise]
    yield (
        "one colour",
        [Image.new("RGB", (SIZE, SIZE), tuple(rng.integers(0, 256, 3).tolist())) for _ in range(count // 2)],
    )
    faces = (255 * skimage.data.lfw_subset()[:count]).astype(np.uint8)
    yield "faces", [Image.fromarray(each).convert("RGB") for each in faces]
    files = sorted(Path(skimage.data.__file__).parent.glob("*.[pj][np]g"))[:count]
    yield "scikit-image", [keep_decoded(file.read_bytes()) for file in files]


def main(arguments: Sequence[str] | None = None) -> None:
    """Embed all images, then print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="foreign images of each kind, about")
    options = parse(parser, arguments, paths=("data", "weights", "cifar"), count=10)
    with working_folder(options, images=24) as folder, threadpool_limits(1):
        dataset, start = cnn.prepare(options.data, folder / "dataset"), cnn.pretrained(options.weights)
        embed(dataset, start, folder / "features", splits=("train", "test"))
        (ids, labels), (test_ids, _) = map(dataset.ids_and_labels, ("train", "test"))
        train, test = map(FeatureStore(folder / "features").load, (ids, test_ids))
        network = Runner(embedding_network(start, CPU), start.network.preprocessing.crop)
        sets = {
            name: np.concatenate(list(network(to_tensor([center_view(each)]) for each in images)))
            for name, images in foreign(options.cifar, options.count)
        }
    print(describe_conditions(1, [0]), {name: len(each) for name, each in sets.items()})
    titles = " | ".join(("measure", "false alarms", *sets))
    print(f"| {titles} |")
    for name, measure in MEASURES.items():
        chosen_by = [
            found(measure, train[fitted], labels[fitted], train[asked], *(each[::2] for each in sets.values()))
            for fitted, asked in folds(labels, 5)
        ]
        rows = (np.mean(chosen_by, 0), found(measure, train, labels, test, *(each[1::2] for each in sets.values())))
        for part, row in zip(("chosen by", "reported"), rows, strict=True):
            print(f"| {name}, {part} | {' | '.join(f'{100 * share:.1f}' for share in row)} |", flush=True)


if __name__ == "__main__":
    run(main)
