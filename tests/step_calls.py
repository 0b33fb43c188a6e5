"""A call of each step of all flows, with inputs that need not exist."""

from pathlib import Path
from typing import Any

from prefect import Task

from cnn.data.images import PHOTO
from cnn.networks.architectures import PRETRAINED
from cnn.publication.manifest import DataOrigin, Lineage
from cnn.serving.shards import FileShard
from cnn.support.backend import Devices
from cnn.support.references import Reference
from cnn.training.hyperparameters import ImageStage
from cnn.training.recipes import cifar_recipe, hotdog_recipe
from tasks import evaluating, fetching, preparing, publishing, scoring, training
from tasks.caching import Call
from tasks.gpus import Placement

STORE = Path("/store")
DEVICES = Devices()


def reference(name: str) -> Reference:
    return Reference(path=Path("/store") / name, digest=f"digest of {name}", checksum=f"checksum of {name}")


DATASET, WEIGHTS, FEATURES = reference("dataset"), reference("weights"), reference("features")
LINEAGE = Lineage(
    data=DataOrigin(source="photos", digest="d", counts={}, split_origin="", left_out=0, duplicates=0),
    weights=None,
    recipe="tuned",
    stages=(),
    seed=0,
    device="cpu(0)",
)
TRANSFER: dict[str, Any] = {
    "inputs": FEATURES, "dataset": DATASET, "weights": WEIGHTS, "network": PRETRAINED, "positive": None, "seed": 0,
    "devices": DEVICES,
    "store": STORE,
}  # fmt: skip
SCRATCH: dict[str, Any] = {
    "pixels": reference("pixels"), "dataset": DATASET, "seed": 0, "store": STORE,
    "where": Placement(devices=DEVICES, together=False),
}  # fmt: skip
DONE: dict[str, Any] = {"checkpoint": reference("checkpoint"), "dataset": DATASET}

#: A call of each step of all flows, by its name: the task and its inputs.
STEPS: dict[str, tuple[Task[..., Any], dict[str, Any]]] = {
    "draw sample": (fetching.draw_sample, {"seed": 0, "store": STORE}),
    "download photos": (fetching.download_data, {"name": "hotdog", "store": STORE, "mirror": None}),
    "open photos": (fetching.open_data, {"path": Path("/photos")}),
    "download weights": (
        fetching.download_weights,
        {"name": "imagenet", "backbone": "squeezenet1_1", "store": STORE, "mirror": None},
    ),
    "draw weights": (fetching.draw_weights, {"network": PRETRAINED, "seed": 0, "store": STORE}),
    "open weights": (fetching.open_weights, {"path": Path("/weights.npz"), "network": PRETRAINED}),
    "prepare": (
        preparing.prepare,
        {"source": reference("photos"), "labels": None, "test_as_validation": False, "store": STORE},
    ),
    "prepare shard": (
        preparing.prepare_shard,
        {
            "source": reference("photos"), "labels": None, "start": 0, "stop": None, "number": 1, "count": 1,
            "store": STORE,
        },
    ),
    "embed shard": (
        preparing.embed_shard,
        {
            "dataset": DATASET, "weights": WEIGHTS, "network": PRETRAINED, "rows": {"train": [0, 5]},
            "devices": DEVICES, "folder": STORE / "features", "number": 1, "count": 1,
        },
    ),
    "embed": (
        preparing.embed,
        {
            "dataset": DATASET, "weights": WEIGHTS, "network": PRETRAINED, "keep_validation": False,
            "devices": DEVICES, "store": STORE,
        },
    ),
    "pack records": (preparing.pack_records, {"dataset": DATASET, "store": STORE}),
    "pack pixels": (preparing.pack_pixels, {"dataset": DATASET, "preprocessing": PHOTO, "store": STORE}),
    "train head": (training.train_stage, {"stage": hotdog_recipe().stages[0], **TRANSFER}),
    "train output": (training.train_stage, {"stage": ImageStage(), **TRANSFER}),
    **{
        f"train {name}": (training.train_architecture, {"stage": cifar_recipe("tuned", name).stages[0], **SCRATCH})
        for name in ("alexnet", "vgg", "squeezenet")
    },
    "evaluate": (
        evaluating.evaluate,
        {
            "what": "classifier", **DONE, "inputs": FEATURES, "devices": DEVICES, "positive": None,
            "threshold": "0.5", "store": STORE,
        },
    ),
    "compare": (
        evaluating.compare,
        {"checkpoints": {"vgg": WEIGHTS}, "reports": {"vgg": FEATURES}, "dataset": DATASET, "store": STORE},
    ),
    "publish": (
        publishing.publish,
        {
            "name": "food", **DONE, "report": reference("report"), "lineage": LINEAGE,
            "made_from": {"data": reference("photos")}, "models": Path("/models"), "promote": "not-worse",
            "margin": 0.01, "int8": False,
        },
    ),
    "score": (
        scoring.score_shard,
        {
            "shard": FileShard(source=Path("/photos"), names=("a.jpg",)), "version": reference("version"),
            "provider": "cpu", "int8": False, "number": 1, "count": 1, "store": STORE,
        },
    ),
    "join scores": (scoring.join, {"parts": {"1": reference("part")}, "output": Path("/scores.parquet")}),
}  # fmt: skip
PREPARING, EMBEDDING = {"prepare", "prepare shard"}, {"embed", "embed shard"}
DOWNLOADS = {"download photos", "download weights"}
FROM_SCRATCH = {"train alexnet", "train vgg", "train squeezenet"}
TRAININGS = {"train head", "train output", *FROM_SCRATCH}


def make_call(step: str, **changes: Any) -> Call:
    """The call of a step with some inputs changed."""
    task, inputs = STEPS[step]
    policy: Any = task.cache_policy
    return Call(policy.function, inputs | changes, policy.unkeyed)
