"""The backbones side by side: what each costs, and how good a head on its features is.

    python benchmarks/backbones.py --data FOLDER --weights NAME=FILE [NAME=FILE …] [--seed 0]

For each backbone: images a second of the network alone, on inputs that are in memory, and of the whole embedding, which
also reads, decodes and resizes them; the megabytes of its parameters; the cross-validated F1 of the head, and that of
the published network on the test images, used once. --quick: SqueezeNet with random weights on drawn images of 32 px;
the figures mean nothing.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import describe_conditions, parse, working_folder
from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import center_view, to_tensor
from cnn.data.preparation import prepare
from cnn.evaluation.predictions import predict_split
from cnn.evaluation.trained import trained_classifier
from cnn.networks.architectures import BACKBONES, pretrained_network
from cnn.networks.running import Runner
from cnn.support.commandline import run
from cnn.support.errors import UserError
from cnn.training.checkpoints import Checkpoint, pretrained
from cnn.training.features import embed, embedding_network, learning_splits
from cnn.training.hyperparameters import HeadStage
from cnn.training.metrics import confusion_matrix, positive_class, scores
from cnn.training.transfer import transfer

_IN_MEMORY = 200  # images of 600 KB each


class Row(NamedTuple):
    """Figures of a backbone: megabytes, images a second of the network and of the embedding, F1 scores 0…1."""

    name: str
    megabytes: float
    network: float
    embedding: float
    cross_validated: float
    test: float


def measure(name: str, start: Checkpoint, dataset: Dataset, features: Path, seed: int) -> Row:
    """Embed a dataset into the folder ``features``, solve the head, and test it."""
    positive, preprocessing = positive_class(dataset.classes, None), start.network.preprocessing
    runner, rows = Runner(embedding_network(start), preprocessing.crop), islice(dataset.rows("train"), _IN_MEMORY)
    inputs = [to_tensor([center_view(decode(row.data), preprocessing)], preprocessing) for row in rows]
    list(runner(inputs[:8]))  # the first ones also allocate
    begin = time.perf_counter()
    list(runner(inputs))
    network = len(inputs) / (time.perf_counter() - begin)
    begin = time.perf_counter()
    splits = learning_splits(dataset, keep_validation=False)
    count = embed(dataset, start, features, splits=splits)
    embedding = count / (time.perf_counter() - begin)
    found = transfer(dataset, start, HeadStage(), seed=seed, inputs=features)
    labels = np.concatenate([dataset.ids_and_labels(split)[1] for split in splits])
    held_out = confusion_matrix(labels, found.held_out["probabilities"].argmax(1), len(dataset.classes))
    tested = predict_split(trained_classifier(found), dataset, "test").metrics(positive)
    size = sum(values.nbytes for values in found.parameters.values()) / 1e6
    return Row(name, size, network, embedding, scores(held_out, positive).f1, tested.f1)


def weights_of(argument: str) -> tuple[str, Path]:
    """A backbone's name and its file, from ``NAME=FILE``.

    Raises:
        ArgumentTypeError: it is not that, or there is no such backbone.
    """
    name, _, file = argument.partition("=")
    if name not in BACKBONES or not file:
        raise argparse.ArgumentTypeError(f"{argument}: expected NAME=FILE with one of {', '.join(BACKBONES)}")
    return name, Path(file)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each backbone and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=weights_of, nargs="+", default=[], help="NAME=FILE of each backbone")
    options = parse(parser, arguments, ["data"])
    with working_folder(options, images=8) as folder:
        dataset = prepare(options.data, folder / "dataset")
        if "test" not in dataset.splits:
            raise UserError(f"{options.data}: expected test images, found none: add a folder test.")
        print("| backbone | MB | network alone, images/s | embedding, images/s | cross-validated F1 | test F1 |")
        print("|---|---|---|---|---|---|")
        for name, file in [("squeezenet1_1", options.weights)] if options.quick else options.weights:
            start = pretrained(file, pretrained_network(name))
            row = measure(name, start, dataset, folder / name, options.seed)
            print("| {} | {:.1f} | {:.0f} | {:.0f} | {:.3f} | {:.3f} |".format(*row), flush=True)
    print(f"\n{describe_conditions(1, [options.seed])}")


if __name__ == "__main__":
    run(main)
