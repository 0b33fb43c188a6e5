"""The notebook's loop as written and this flow in turn: how long from photos to the best checkpoint, and how good.

    python benchmarks/hotdog_vs_notebook.py --data FOLDER --weights FILE [--epochs 10] [--seed 0]

The folder has train and test parts. The notebook's loop trains on the one and picks its best epoch on the other, as
written, from records in random order (making them is not counted) of the photos as they are, or with --resize 256 of
photos whose shorter side is 256 px. The flow picks on a fifth of train, runs on empty caches, and its figures are of
the test part, touched once.
"""

import argparse
import io
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cnn.backend import mx
from cnn.datasets import Dataset
from cnn.networks import initialise, set_parameters
from cnn.pictures import CROP, decode, resize_short
from cnn.preparation import prepare
from cnn.records import write_records
from cnn.squeezenet import squeezenet
from cnn.weights import read_weights


def make_records(dataset: Dataset, folder: Path, short_side: int | None, seed: int) -> None:
    """``train.rec`` and ``validation.rec`` in random order, as im2rec makes them."""
    for split in ("train", "validation"):
        rows = list(dataset.rows(split))
        random.Random(seed).shuffle(rows)
        write_records(folder / f"{split}.rec", [(row.label, _encode(row.data, short_side)) for row in rows])


def _encode(data: bytes, short_side: int | None) -> bytes:
    if short_side is None:
        return data
    packed = io.BytesIO()
    resize_short(decode(data), short_side).save(packed, "JPEG", quality=95)
    return packed.getvalue()


def notebook_loop(records: Path, weights: Path, positive: int, epochs: int, seed: int) -> dict[str, float]:
    """Section "Transfer Learning" as written, its names kept; returns seconds, pictures, best accuracy and F1."""
    from mxnet import autograd, gluon
    from mxnet.image import color_normalize

    ctx, batch_size = [mx.cpu()], 64
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
    dognet = initialise(squeezenet(2), CROP, ctx, seed)
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

    begin, pictures, best_accuracy, best_f1 = time.monotonic(), 0, 0.0, 0.0
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
            pictures += batch.data[0].shape[0]
        metric.reset()
        accuracy, f1 = evaluate()
        best_accuracy, best_f1 = max(best_accuracy, accuracy), max(best_f1, f1)
        print(f"notebook epoch {epoch}: accuracy {accuracy:.3f}, F1 {f1:.3f}", file=sys.stderr, flush=True)
    return {
        "seconds": time.monotonic() - begin,
        "pictures": pictures,
        "accuracy": best_accuracy,
        "f1": best_f1,
    }


def flow(data: Path, weights: Path, seed: int, folder: Path) -> dict[str, float]:
    """The flow on empty caches; its seconds are those from its first task's start to its last checkpoint."""
    begin = time.time()
    # the flow makes the settings that Prefect reads when it is imported
    # isort: off
    from flows.hotdog import HotdogSettings, hotdog
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    # isort: on

    settings = HotdogSettings(
        data=str(data), weights=str(weights), seed=seed, store=folder / "store", models=folder / "models"
    )
    state = hotdog(settings, return_state=True)
    manifest = json.loads((state.result().path / "manifest.json").read_text())
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(id={"any_": [state.state_details.flow_run_id]})
        runs = client.read_task_runs(flow_run_filter=wanted)
    times = {
        run.name: (run.start_time.timestamp(), run.end_time.timestamp())
        for run in runs
        if run.start_time and run.end_time
    }
    for name, (start, end) in sorted(times.items(), key=lambda item: item[1]):
        print(f"flow {name}: {end - start:.1f} s", file=sys.stderr, flush=True)
    first, trained = min(start for start, _ in times.values()), times["train output"][1]
    stage = manifest["recipe"]["stages"][0]
    return {
        "start-up": first - begin,
        "seconds": trained - first,
        "pictures": sum(manifest["data"]["counts"]["train"].values()) * stage["views"] * stage["epochs"],
        **{name: manifest["metrics"]["test"][name] for name in ("accuracy", "f1")},
    }


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--resize", type=int, help="shorter side of the notebook's photos, px")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset: Dataset = prepare(options.data, folder / "dataset", second_part_validates=True)
        positive = next(index for index, label in enumerate(dataset.classes) if not label.startswith("not"))
        make_records(dataset, folder, options.resize, options.seed)
        ours = flow(options.data, options.weights, options.seed, folder)
        theirs = notebook_loop(folder, options.weights, positive, options.epochs, options.seed)
    print(f"seed {options.seed}, n 1, OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}, {os.cpu_count()} CPUs\n")
    print(f"{'':34}{'notebook as written':>20}{'this flow':>12}")
    print(f"{'photos to best checkpoint, s':34}{theirs['seconds']:>20.1f}{ours['seconds']:>12.1f}")
    speeds = (run["pictures"] / run["seconds"] for run in (theirs, ours))
    print("{:34}{:>20.0f}{:>12.0f}".format("training pictures (or views) per s", *speeds))
    print(f"{'best accuracy':34}{theirs['accuracy']:>20.3f}{ours['accuracy']:>12.3f}")
    print(f"{'best F1':34}{theirs['f1']:>20.3f}{ours['f1']:>12.3f}")
    print(f"{'start-up of Prefect, s':34}{'':>20}{ours['start-up']:>12.1f}")
    print(f"{'ratio of the times':34}{'':>20}{theirs['seconds'] / ours['seconds']:>12.1f}")


if __name__ == "__main__":
    main()
