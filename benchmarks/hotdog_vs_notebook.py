"""The notebook's loop as written, PyTorch and this flow: how long from photos to the best checkpoint, and how good.

    python benchmarks/hotdog_vs_notebook.py --data FOLDER --weights FILE [--epochs 10] [--seed 0] [--resize 256]
    python3 -m venv TORCH && TORCH/bin/pip install torch torchvision
    python benchmarks/hotdog_vs_notebook.py --data FOLDER --weights FILE --torch TORCH/bin/python

The folder has a train and a test split. The notebook's loop trains on the one for so many epochs and chooses its best
epoch on the other, as written. It reads records in random order (making them is not counted) of the photos as they
are, or with --resize of photos whose shorter side has so many px. The flow runs with its defaults and an empty store,
chooses by cross-validation on the training photos, and its accuracy and F1 are of the test split, used once. Its
seconds are from the start of its first task to the end of its training, of everything it does there; the start of
Prefect is listed apart. With --torch, a Python that has torch and torchvision runs benchmarks/hotdog_pytorch.py, what a
user would write with them, for as many epochs from the same weights; its best epoch is chosen as the notebook's is.
--quick: one epoch on 48 drawn images with random weights; the figures mean nothing.
"""

import argparse
import io
import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import describe_conditions, parse, working_folder
from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import CROP, resize_short
from cnn.data.preparation import prepare
from cnn.evaluation.report import CROSS_VALIDATION
from cnn.networks.architectures import squeezenet
from cnn.networks.running import initialise, set_parameters
from cnn.networks.weights import read_weights
from cnn.publication.manifest import Manifest
from cnn.support.backend import mx
from cnn.support.commandline import run
from cnn.support.errors import UserError
from cnn.training.checkpoints import save_parameters
from cnn.training.metrics import positive_class
from cnn.training.records import write_records


@dataclass(frozen=True)
class Outcome:
    """Seconds to the best checkpoint, images learnt from until then, best accuracy and F1, 0…1."""

    seconds: float
    images: int
    accuracy: float
    f1: float
    start_up: float = 0.0


def make_records(dataset: Dataset, folder: Path, short_side: int | None, seed: int) -> None:
    """Write ``train.rec`` and ``validation.rec`` in random order, as im2rec does."""

    def encode(data: bytes) -> bytes:
        if short_side is None:
            return data
        packed = io.BytesIO()
        resize_short(decode(data), short_side).save(packed, "JPEG", quality=95)
        return packed.getvalue()

    for split in ("train", "validation"):
        rows = list(dataset.rows(split))
        random.Random(seed).shuffle(rows)
        write_records(folder / f"{split}.rec", ((row.label, encode(row.data)) for row in rows))


def notebook_loop(records: Path, weights: Path, positive: int, *, epochs: int, seed: int, batch_size: int) -> Outcome:
    """The notebook's section "Transfer Learning" as written, its names kept."""
    autograd, gluon, color_normalize = mx.autograd, mx.gluon, mx.image.color_normalize
    ctx = [mx.cpu()]
    mx.random.seed(seed)
    options = {"min_img_size": 256, "data_shape": (3, 224, 224), "batch_size": batch_size, "seed": seed}
    train_iter = mx.io.ImageRecordIter(
        path_imgrec=str(records / "train.rec"),
        rand_crop=True,
        shuffle=True,
        max_random_scale=1.5,
        min_random_scale=0.75,
        rand_mirror=True,
        **options,
    )
    val_iter = mx.io.ImageRecordIter(path_imgrec=str(records / "validation.rec"), **options)
    dognet = initialise(squeezenet(2), CROP, seed)
    set_parameters(dognet, read_weights(weights), prefix="features")
    trainer = gluon.Trainer(dognet.output.collect_params(), "sgd", {"learning_rate": 0.01})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    metric = mx.metric.create(["acc", "f1"])
    mean = mx.nd.array([0.485, 0.456, 0.406]).reshape((1, 3, 1, 1))
    std = mx.nd.array([0.229, 0.224, 0.225]).reshape((1, 3, 1, 1))

    def split(batch: Any) -> tuple[list[Any], list[Any]]:
        data = color_normalize(batch.data[0] / 255, mean=mean, std=std)
        labels = batch.label[0] == positive  # the notebook's label 1 is the hotdog
        return gluon.utils.split_and_load(data, ctx), gluon.utils.split_and_load(labels, ctx)

    def evaluate() -> tuple[float, float]:
        val_iter.reset()
        for batch in val_iter:
            data, label = split(batch)
            metric.update(label, [dognet(x) for x in data])
        accuracy, f1 = metric.get()[1]
        metric.reset()
        return accuracy, f1

    begin, images, best_accuracy, best_f1 = time.monotonic(), 0, 0.0, 0.0
    evaluate()
    for epoch in range(epochs):
        train_iter.reset()
        for batch in train_iter:
            data, label = split(batch)
            losses, outputs = [], []
            with autograd.record():
                for x, y in zip(data, label, strict=True):
                    z = dognet(x)
                    losses.append(loss(z, y) * (1 + y * 5) / 5)
                    outputs.append(z)
                for part in losses:
                    part.backward()
            trainer.step(batch.data[0].shape[0])
            metric.update(label, outputs)
            images += batch.data[0].shape[0]
        metric.reset()
        accuracy, f1 = evaluate()
        best_accuracy, best_f1 = max(best_accuracy, accuracy), max(best_f1, f1)
        print(f"notebook epoch {epoch}: accuracy {accuracy:.3f}, F1 {f1:.3f}", file=sys.stderr, flush=True)
    return Outcome(time.monotonic() - begin, images, best_accuracy, best_f1)


def run_pytorch(
    python: Path, dataset: Dataset, folder: Path, weights: Path, positive: int, *, epochs: int, seed: int
) -> Outcome:
    """The same photos and weights, trained by `benchmarks/hotdog_pytorch.py` with a Python that has torch.

    Raises:
        UserError: the program failed; what it printed says why.
    """
    photos, features = folder / "photos", folder / "features.npz"
    for split in ("train", "validation"):
        for row in dataset.rows(split):
            path = photos / split / dataset.classes[row.label] / f"{row.id}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row.data)
    tensors = read_weights(weights)
    save_parameters(features, {name: tensors[name] for name in tensors if name.startswith("features.")})
    program = Path(__file__).with_name("hotdog_pytorch.py")
    command: list[str | Path] = [python, program, photos, features, dataset.classes[positive], str(epochs), str(seed)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise UserError(
            f"{python}: expected a Python with torch and torchvision, found exit status {ended.returncode}: see above."
        )
    return Outcome(**json.loads(ended.stdout))


def run_flow(data: Path, weights: Path, seed: int, folder: Path) -> Outcome:
    """The hotdog flow with its defaults and an empty store."""
    begin = time.time()
    from flows.hotdog import hotdog  # here, as the import of Prefect is part of the flow's start
    from flows.settings import HotdogSettings

    settings = HotdogSettings(
        data=str(data), weights=str(weights), seed=seed, store=folder / "store", models=folder / "models"
    )
    state: Any = hotdog(**dict(settings), return_state=True)
    manifest = Manifest.open(state.result().path)
    times = task_times(state.state_details.flow_run_id)
    for name, (start, end) in sorted(times.items(), key=lambda item: item[1]):
        print(f"flow {name}: {end - start:.1f} s", file=sys.stderr, flush=True)
    first = min(start for start, _ in times.values())
    images, metrics = manifest.metrics[CROSS_VALIDATION].images, manifest.metrics["test"]
    return Outcome(training_end(times) - first, images, metrics.accuracy, metrics.f1, first - begin)


def task_times(flow_run: UUID) -> dict[str, tuple[float, float]]:
    """Start and end of a flow run's tasks by their names, in seconds since 1970.

    Raises:
        UserError: Prefect's server does not know of all when they ended.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    before = None
    with get_client(sync_client=True) as client:
        for _ in range(60):  # the server writes down what tasks did a moment after they did it
            runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [flow_run]}))
            times = {
                run.name: (run.start_time.timestamp(), run.end_time.timestamp())
                for run in runs
                if run.start_time and run.end_time
            }
            if len(times) == len(runs) and times == before:
                return times
            before = times
            time.sleep(1)
    raise UserError(f"Prefect's server: expected the ends of {len(runs)} task runs, found {len(times)}: run it again.")


def training_end(times: Mapping[str, tuple[float, float]]) -> float:
    """When the last task run ended that trained.

    Raises:
        UserError: there is none.
    """
    ends = [end for name, (_, end) in times.items() if name.startswith("train ")]
    if not ends:
        raise UserError(f"Prefect's task runs: expected one named 'train …', found {', '.join(times)}: see tasks/.")
    return max(ends)


def print_table(outcomes: Mapping[str, Outcome]) -> None:
    """Print what came of each; the last is the flow."""
    found = list(outcomes.values())
    rows = {
        "": list(outcomes),
        "photos to best checkpoint, s": [f"{each.seconds:.1f}" for each in found],
        "images learnt from per s": [f"{each.images / each.seconds:.0f}" for each in found],
        "best accuracy": [f"{each.accuracy:.3f}" for each in found],
        "best F1": [f"{each.f1:.3f}" for each in found],
        "start of Prefect, s": [f"{each.start_up:.1f}" if each.start_up else "" for each in found],
        "ratio of the times": [f"{each.seconds / found[-1].seconds:.1f}" for each in found],
    }
    for title, cells in rows.items():
        print(f"{title:30}" + "".join(f"{cell:>22}" for cell in cells))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resize", type=int, help="shorter side of the notebook's photos, px")
    parser.add_argument("--epochs", type=int, default=10, help="of the notebook's loop and of PyTorch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--torch", type=Path, metavar="PYTHON", help="one that has torch and torchvision")
    options = parse(parser, arguments, ["data", "weights"], epochs=1)
    batch_size = 16 if options.quick else 64  # records must hold a whole batch
    outcomes: dict[str, Outcome] = {}
    with working_folder(options, images=8) as folder:
        dataset = prepare(options.data, folder / "dataset", test_as_validation=True)
        positive = positive_class(dataset.classes, None)
        if positive is None:
            raise UserError(f"{options.data}: expected a class hotdog, found {', '.join(dataset.classes)}.")
        training: Any = {"epochs": options.epochs, "seed": options.seed}
        make_records(dataset, folder, options.resize, options.seed)
        ours = run_flow(options.data, options.weights, options.seed, folder)
        outcomes["notebook as written"] = notebook_loop(
            folder, options.weights, positive, batch_size=batch_size, **training
        )
        if options.torch:
            outcomes["PyTorch"] = run_pytorch(options.torch, dataset, folder, options.weights, positive, **training)
    print(f"\n{describe_conditions(1, [options.seed])}\n")
    print_table(outcomes | {"this flow": ours})
    if not options.torch:
        print("PyTorch was left out: name a Python that has it with --torch.")


if __name__ == "__main__":
    run(main)
