"""The notebook's loop as written and this flow in turn: how long from photos to the best checkpoint, and how good.

    python benchmarks/hotdog_vs_notebook.py --data FOLDER --weights FILE [--epochs 10] [--seed 0]

The folder has train and test parts. The notebook's loop trains on the one and picks its best epoch on the other, as
written, from records whose shorter side is 256 px (making them is not counted). The flow picks on a fifth of train,
runs on empty caches, and its figures are of the test part, touched once.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cnn.backend import mx
from cnn.datasets import Dataset, prepare
from cnn.networks import set_parameters, squeezenet
from cnn.packing import pack_dataset
from cnn.weights import read_weights


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
    dognet = squeezenet(2, ctx, seed)
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
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    begin = time.time()
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    from flows.hotdog import HotdogSettings, hotdog

    settings = HotdogSettings(
        data=str(data), weights=str(weights), seed=seed, store=folder / "store", models=folder / "models"
    )
    state = hotdog(settings, return_state=True)
    manifest = json.loads((state.result().path / "manifest.json").read_text())
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(id={"any_": [state.state_details.flow_run_id]})
        runs = {run.name.split()[0]: run for run in client.read_task_runs(flow_run_filter=wanted)}
    for run in sorted(runs.values(), key=lambda run: run.start_time):
        print(f"flow {run.name}: {run.total_run_time.total_seconds():.1f} s", file=sys.stderr, flush=True)
    first = min(run.start_time for run in runs.values()).timestamp()
    stage = manifest["recipe"]["stages"][0]
    return {
        "start-up": first - begin,
        "seconds": runs["train"].end_time.timestamp() - first,
        "pictures": sum(manifest["data"]["counts"]["train"].values()) * stage["views"] * stage["epochs"],
        **{name: manifest["metrics"]["test"][name] for name in ("accuracy", "f1")},
    }


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset: Dataset = prepare(options.data, folder / "dataset", second_part_validates=True)
        positive = next(index for index, label in enumerate(dataset.classes) if not label.startswith("not"))
        pack_dataset(dataset, folder / "records")
        ours = flow(options.data, options.weights, options.seed, folder)
        theirs = notebook_loop(folder / "records", options.weights, positive, options.epochs, options.seed)
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
