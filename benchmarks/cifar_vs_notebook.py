"""The notebook's loop as written and this project's two recipes on CIFAR-10: accuracy after each epoch, and speed.

    python benchmarks/cifar_vs_notebook.py --data FOLDER [--architectures alexnet vgg] [--seeds 0] [--epochs 7]

The folder holds CIFAR-10's batches; without the official test batch the last training batch is held out for the test.

- The notebook's loop and recipe ``notebook`` measure every epoch on the test images, as written.
- Recipe ``tuned`` measures every epoch on a twentieth of the training images (--images: on 30 %), held out, and is
  measured on the test images once, at the end.
- ``--variants tuned ablations`` takes each difference of ``tuned`` from ``notebook`` back in turn, or those that
  ``--without`` names (settings with commas: together). The test images are not used then.

Seconds are of training and evaluation; "s to the accuracy as written" are those until the accuracy after an epoch is
the one that the loop as written ends with. Below the table stands how long the arithmetic of that loop would take at
the speed of a matrix product. --quick: one epoch on 128 drawn images, the figures mean nothing.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ablations import ablations, differences
from benchmarks.arithmetic import arithmetic_alone, multiply_adds_per_second
from benchmarks.cifar_runs import AS_WRITTEN, Run, table
from benchmarks.harness import describe_conditions, parse, working_folder
from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.preparation import prepare
from cnn.evaluation.predictions import predict_split
from cnn.evaluation.trained import trained_classifier
from cnn.networks.architectures import ARCHITECTURES
from cnn.support.backend import mx
from cnn.support.commandline import run as run_command
from cnn.support.errors import UserError
from cnn.training.hyperparameters import FromScratch
from cnn.training.recipes import RecipeName, cifar_recipe
from cnn.training.scratch import train_from_scratch

SUBSET_SHARE = 0.3  # of a subset's training images are for validation: a twentieth of few would show no difference
#: The notebook's learning rates.
WRITTEN_RATES = {"alexnet": 0.1, "vgg": 0.05}
RECIPES: tuple[RecipeName, ...] = ("notebook", "tuned")
ABLATIONS = "ablations"


def as_written(dataset: Dataset, architecture: str, epochs: int, seed: int) -> Run:
    """The notebook's "My first convolutional network", its names kept."""
    autograd, gluon, nd = mx.autograd, mx.gluon, mx.nd
    mx.random.seed(seed)
    np.random.seed(seed)  # its DataLoader shuffles with this
    ctx, batch_size = mx.cpu(), 64

    def test_transformer(data: Any, label: int) -> tuple[Any, Any]:
        data = mx.image.imresize(data, 32, 32)
        data = nd.transpose(data, (2, 0, 1))
        data = data.astype(np.float32)
        data = (data - nd.min(data)) / (nd.max(data) - nd.min(data))
        return data, np.float32(label)

    def train_transformer(data: Any, label: Any) -> tuple[Any, Any]:
        data, label = test_transformer(data, label)
        data = data + 0.01 * nd.random.normal(shape=data.shape)
        return nd.clip(data=data, a_min=0, a_max=1), label

    def images(split: str) -> Iterator[tuple[Any, int]]:
        for row in dataset.rows(split):
            yield nd.array(np.asarray(decode(row.data)), dtype=np.uint8), row.label

    train_data = gluon.data.DataLoader(
        [train_transformer(*d) for d in images("train")], batch_size=batch_size, shuffle=True, last_batch="discard"
    )
    test_data = gluon.data.DataLoader(
        [test_transformer(*d) for d in images("validation")], batch_size=batch_size, last_batch="discard"
    )
    net = ARCHITECTURES[architecture].build(len(dataset.classes))
    net.collect_params().initialize(mx.init.Xavier(magnitude=2.24), ctx=ctx)
    if architecture == "vgg":  # the notebook hybridizes this one only
        net.hybridize()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": WRITTEN_RATES[architecture]})
    softmax_cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss()

    def evaluate_accuracy(data_iterator: Any) -> float:
        acc = mx.metric.Accuracy()
        for d, label in data_iterator:
            predictions = nd.argmax(net(d.as_in_context(ctx)), axis=1)
            acc.update(preds=predictions, labels=label.as_in_context(ctx))
        return acc.get()[1]

    run, moving_loss = Run(architecture, AS_WRITTEN, seed, sum(dataset.counts["train"].values())), 0.0
    for e in range(epochs):
        begin = time.monotonic()
        for i, (d, l) in enumerate(train_data):  # noqa: E741
            data, label = d.as_in_context(ctx), l.as_in_context(ctx)
            with autograd.record():
                loss = softmax_cross_entropy(net(data), label)
            loss.backward()
            trainer.step(data.shape[0])
            curr_loss = nd.mean(loss).asscalar()
            moving_loss = curr_loss if i == e == 0 else 0.99 * moving_loss + 0.01 * curr_loss
        trained = time.monotonic()
        test_accuracy = evaluate_accuracy(test_data)
        evaluate_accuracy(train_data)
        run.add(test_accuracy, time.monotonic() - begin, trained - begin)
    run.test = run.accuracies[-1]
    return run


def ours(dataset: Dataset, stage: FromScratch, variant: str, seed: int, measure_test: bool = True) -> Run:
    """Training and evaluation as the flow's tasks do it, without Prefect."""
    run = Run(stage.architecture, variant, seed, sum(dataset.counts["train"].values()))
    try:
        checkpoint = train_from_scratch(dataset, stage, seed=seed)
    except UserError as error:  # it diverged; the others are measured all the same
        print(f"{variant} {stage.architecture}, seed {seed}: {error}", flush=True)
        return run
    for row, timing in zip(checkpoint.history[1:], checkpoint.timings[1:], strict=True):
        run.add(row["validation_accuracy"], timing["seconds"], timing["training_seconds"])
    run.outside_network = float(np.mean([timing["outside_network"] for timing in checkpoint.timings[1:]]))
    if "test" not in dataset.splits:
        run.test = run.accuracies[-1]
    elif measure_test:
        run.test = predict_split(trained_classifier(checkpoint), dataset, "test").metrics(None).accuracy
    return run


def subset(data: Path, count: int, folder: Path) -> Path:
    """About ``count`` of the training images and of the test images in ``data``, evenly chosen, as class folders."""
    dataset = prepare(data, folder / "prepared", test_as_validation=True)
    print(*dataset.caveats, flush=True)
    for split, part in (("train", "train"), ("validation", "test")):
        step = max(1, sum(dataset.counts[split].values()) // count)
        for number, row in islice(enumerate(dataset.rows(split)), 0, None, step):
            place = folder / "images" / part / dataset.classes[row.label] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(row.data)
    return folder / "images"


def make_datasets(options: argparse.Namespace, folder: Path) -> tuple[Dataset, Dataset]:
    """The dataset that chooses on test, as in the notebook, and the one that does not."""
    data, share = options.data, None
    if options.images:
        data, share = subset(data, options.images, folder / "subset"), SUBSET_SHARE
    notebook = prepare(data, folder / "notebook", test_as_validation=True)
    tuned = prepare(data, folder / "tuned", validation_share=share)
    if not options.images:
        print(*notebook.caveats, flush=True)
    for name, dataset in (("notebook", notebook), ("tuned", tuned)):
        counts = (f"{sum(of_class.values())} {split}" for split, of_class in dataset.counts.items())
        print(f"images for {name}: {', '.join(counts)}", flush=True)
    return notebook, tuned


def measure(options: argparse.Namespace, notebook: Dataset, tuned: Dataset) -> Iterator[Run]:
    """All variants of all architectures with all seeds, one after the other."""
    for architecture, seed in product(options.architectures, options.seeds):
        if AS_WRITTEN in options.variants and architecture in WRITTEN_RATES:
            yield as_written(notebook, architecture, options.epochs, seed)
        stages: list[tuple[str, FromScratch]] = [
            (name, cifar_recipe(name, architecture, epochs=options.epochs).stages[0])
            for name in RECIPES
            if name in options.variants
        ]
        if ABLATIONS in options.variants:
            stages += ablations(architecture, options.epochs, options.without)
        for variant, stage in stages:
            dataset = notebook if variant == "notebook" else tuned
            yield ours(dataset, stage, variant, seed, measure_test=ABLATIONS not in options.variants)


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    variants = [AS_WRITTEN, *RECIPES, ABLATIONS]
    parser.add_argument("--architectures", nargs="+", choices=list(ARCHITECTURES), default=list(WRITTEN_RATES))
    parser.add_argument("--variants", nargs="+", choices=variants, default=variants[:3])
    parser.add_argument("--without", nargs="+", type=differences, metavar="SETTING,…", default=())
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--images", type=int, help="use only so many training images and so many test images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parse(parser, arguments, ["data"], epochs=1)
    if options.without and ABLATIONS not in options.variants:
        parser.error(f"--without is for --variants {ABLATIONS}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all variants in turn and print the table."""
    options = parse_options(arguments)
    with working_folder(options, images=32) as folder:
        notebook, tuned = make_datasets(options, folder)
        runs = list(measure(options, notebook, tuned))
    print(f"\n{describe_conditions(len(options.seeds), options.seeds)}\n")
    print("\n".join(table(runs)), end="\n\n")
    train, test = (sum(notebook.counts[split].values()) for split in ("train", "validation"))
    speed = multiply_adds_per_second(512 if options.quick else 4096)
    print(f"numpy's product of two large matrices: {speed / 1e9:.0f} × 10⁹ multiply-adds per second")
    for architecture in (each for each in options.architectures if each in WRITTEN_RATES):
        print(arithmetic_alone(architecture, train, test, options.epochs, speed))


if __name__ == "__main__":
    run_command(main)
