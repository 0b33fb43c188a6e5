"""The notebook's loop as written and this project's two recipes in turn: how good after each epoch, and how fast.

    python benchmarks/cifar_vs_notebook.py --data FOLDER [--architectures alexnet vgg] [--seeds 0] [--quick]

The folder holds CIFAR-10's batches; without the official test batch the last training batch is held out for the test.
The notebook's loop and recipe ``notebook`` measure every epoch on the test pictures, as written. Recipe ``tuned``
measures every epoch on a twentieth of the training pictures (--pictures: on 30 %), which it does not learn from, and
is measured on the test pictures once, at the end. ``--variants tuned ablations`` takes each of its differences back in
turn, or those that ``--without`` names (settings with commas: together), and leaves the test pictures alone. "s to the
accuracy as written" are the seconds until the accuracy after an epoch is what the loop as written has on test at its
end. Below the table stands what the arithmetic of that loop would take at the speed of a matrix product. --quick takes
some hundred pictures and one epoch: its figures mean nothing.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.arithmetic import arithmetic_alone, multiply_adds_per_second
from benchmarks.cifar_runs import AS_WRITTEN, Run, table
from cnn import cifar
from cnn.architectures import ARCHITECTURES
from cnn.backend import mx
from cnn.batches import PixelBatches
from cnn.classifier import Classifier
from cnn.datasets import Dataset
from cnn.errors import UserError
from cnn.evaluation import predict_split
from cnn.files import text_digest
from cnn.hyperparameters import FromScratch
from cnn.learner import Classes, Learner
from cnn.models import fresh_model
from cnn.packing import pack_pixels
from cnn.pictures import decode
from cnn.preparation import prepare
from cnn.recipes import RecipeName, cifar_recipe
from cnn.training import train

SUBSET_SHARE = 0.3  # of the training pictures for validation: of few, more are needed to see a difference by
#: The notebook's learning rates.
WRITTEN_RATES = {"alexnet": 0.1, "vgg": 0.05}
ABLATIONS = "ablations"
RECIPES: tuple[RecipeName, ...] = ("notebook", "tuned")
VARIANTS = [AS_WRITTEN, *RECIPES, ABLATIONS]
#: Settings in which ``tuned`` differs from ``notebook``; those that only make sense together stand together.
DIFFERENCES = (
    ("input", "noise"),
    ("initializer",),
    ("batch_size",),
    ("mirror",),
    ("shift",),
    ("mirrored_mean",),
    ("schedule", "warm_up"),
    ("label_smoothing",),
    ("dropout",),
)
#: The same of the optimizer's own settings: where it is another one, they mean something else.
SAME_OPTIMIZER = (("learning_rate", "momentum"), ("weight_decay",))
OTHER_OPTIMIZER = (("optimizer", "learning_rate", "momentum", "weight_decay"),)


def as_written(dataset: Dataset, architecture: str, epochs: int, seed: int) -> Run:
    """The notebook's "My first convolutional network", its names kept."""
    from mxnet import autograd, gluon, nd

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

    def pictures(split: str) -> Iterator[tuple[Any, int]]:
        for row in dataset.rows(split):
            yield nd.array(np.asarray(decode(row.data)), dtype=np.uint8), row.label

    train_data = gluon.data.DataLoader(
        [train_transformer(*d) for d in pictures("train")], batch_size=batch_size, shuffle=True, last_batch="discard"
    )
    test_data = gluon.data.DataLoader(
        [test_transformer(*d) for d in pictures("validation")], batch_size=batch_size, last_batch="discard"
    )
    net = ARCHITECTURES[architecture](len(dataset.classes))
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


def ours(
    dataset: Dataset, settings: FromScratch, variant: str, seed: int, folder: Path, measure_test: bool = True
) -> Run:
    """What the flow's training and evaluation tasks do, without Prefect."""
    pixels = folder / text_digest(dataset.folder, settings.input)
    if not pixels.exists():
        pack_pixels(dataset, settings.input, pixels)
    devices, labels = [mx.cpu()], Classes(dataset.classes, None, tuple(dataset.counts["train"].values()))
    batches = PixelBatches(dataset, pixels, settings, seed)
    model = fresh_model(settings, len(dataset.classes), devices, seed, batches.examples())
    learner = Learner(settings, labels, model, devices)
    run = Run(settings.architecture, variant, seed, sum(labels.counts))
    try:
        found = train(learner, batches, seed, folder / f"{text_digest(settings, variant, seed)}.npz")
    except UserError as error:  # it diverged; the others are measured all the same
        print(f"{variant} {settings.architecture}, seed {seed}: {error}", flush=True)
        return run
    for row, timing in zip(found.history[1:], found.timings[1:], strict=True):
        run.add(row["validation_accuracy"], timing["seconds"], timing["training_seconds"])
    run.outside_network = float(np.mean([timing["outside_network"] for timing in found.timings[1:]]))
    if "test" not in dataset.splits:
        run.test = run.accuracies[-1]
    elif measure_test:
        classifier = Classifier.build(settings.design, found.parameters, dataset.classes, devices)
        run.test = predict_split(classifier, dataset, "test").scores(None)["accuracy"]
    return run


def ablations(
    architecture: str, epochs: int, groups: Sequence[Sequence[str]] = ()
) -> Iterator[tuple[str, FromScratch]]:
    """Recipe ``tuned`` with each group of its differences (default: all) taken back to ``notebook``'s in turn."""
    notebook, tuned = (cifar_recipe(name, architecture, epochs) for name in RECIPES)
    optimizer = SAME_OPTIMIZER if tuned.optimizer == notebook.optimizer else OTHER_OPTIMIZER
    for group in groups or (*DIFFERENCES, *optimizer):
        taken_back = {
            name: getattr(notebook, name) for name in group if getattr(notebook, name) != getattr(tuned, name)
        }
        if taken_back:
            yield f"tuned without {', '.join(taken_back)}", FromScratch(**dict(tuned) | taken_back)
        elif groups:
            print(f"{architecture}: in both recipes {', '.join(group)} are the same")


def subset(data: Path, count: int, folder: Path) -> Path:
    """About ``count`` of ``data``'s training and of its test pictures, evenly chosen, as a folder of class folders."""
    dataset = prepare(data, folder / "prepared", second_part_validates=True)
    print(*dataset.caveats, flush=True)
    for split, part in (("train", "train"), ("validation", "test")):
        step = max(1, sum(dataset.counts[split].values()) // count)
        for number, row in islice(enumerate(dataset.rows(split)), 0, None, step):
            place = folder / "pictures" / part / dataset.classes[row.label] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(row.data)
    return folder / "pictures"


def differences(names: str) -> list[str]:
    """Names of settings, separated by commas.

    Raises:
        argparse.ArgumentTypeError: there is no such setting.
    """
    for name in (found := names.split(",")):
        if name not in FromScratch.model_fields:
            raise argparse.ArgumentTypeError(
                f"{name!r} is no setting; choose from {', '.join(FromScratch.model_fields)}"
            )
    return found


def main() -> None:
    """Run all variants in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--architectures", nargs="+", choices=list(ARCHITECTURES), default=list(WRITTEN_RATES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS[:3])
    parser.add_argument("--without", nargs="+", type=differences, metavar="SETTING,…", default=())
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--pictures", type=int, help="take so many training and test pictures only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help="the same as --pictures 256 --epochs 1")
    options = parser.parse_args()
    if options.without and ABLATIONS not in options.variants:
        parser.error(f"--without is for --variants {ABLATIONS}")
    if options.quick:
        options.pictures, options.epochs = 256, 1
    with tempfile.TemporaryDirectory() as name:
        folder, data, share = Path(name), options.data, cifar.VALIDATION_SHARE
        if options.pictures:
            data, share = subset(data, options.pictures, folder / "subset"), SUBSET_SHARE
        notebook = prepare(data, folder / "notebook", second_part_validates=True)
        tuned = prepare(data, folder / "tuned", validation_share=share)
        if not options.pictures:
            print(*notebook.caveats, flush=True)
        for name, dataset in (("notebook", notebook), ("tuned", tuned)):
            counts = (f"{sum(of_class.values())} {split}" for split, of_class in dataset.counts.items())
            print(f"pictures for {name}: {', '.join(counts)}", flush=True)
        runs = []
        for architecture, seed in product(options.architectures, options.seeds):
            if AS_WRITTEN in options.variants and architecture in WRITTEN_RATES:
                runs.append(as_written(notebook, architecture, options.epochs, seed))
            trainings: list[tuple[str, FromScratch]] = [
                (name, cifar_recipe(name, architecture, options.epochs)) for name in RECIPES if name in options.variants
            ]
            if ABLATIONS in options.variants:
                trainings += ablations(architecture, options.epochs, options.without)
            for variant, settings in trainings:
                dataset = notebook if variant == "notebook" else tuned
                runs.append(ours(dataset, settings, variant, seed, folder, ABLATIONS not in options.variants))
    threads = os.environ["OMP_NUM_THREADS"]
    print(f"\nn {len(options.seeds)} a network, OMP_NUM_THREADS={threads}, {os.cpu_count()} CPUs\n")
    print("\n".join(table(runs)), end="\n\n")
    train_count, test_count = (sum(notebook.counts[split].values()) for split in ("train", "validation"))
    speed = multiply_adds_per_second()
    print(f"numpy's product of two large matrices: {speed / 1e9:.0f} × 10⁹ multiply-adds per second")
    for architecture in (each for each in options.architectures if each in WRITTEN_RATES):
        print(arithmetic_alone(architecture, train_count, test_count, options.epochs, speed))


if __name__ == "__main__":
    main()
