"""From photos to a published classifier: python flows/hotdog.py [--data FOLDER] (--help lists all settings)."""

import os
import sys
from pathlib import Path

from pydantic import Field

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, Python looks in flows/ only

from cnn.backend import resolve_auto
from cnn.commandline import run_flow
from cnn.files import Reference
from cnn.hyperparameters import PRETRAINED
from cnn.publication import versions
from cnn.recipes import hotdog_recipe
from cnn.settings import MIRROR, FlowSettings, model_name
from tasks import evaluating, fetching, preparing, publishing, runs, training


class HotdogSettings(FlowSettings):
    """Train a picture classifier from photos by transfer learning, and publish it."""

    data: str = Field(
        "auto",
        description="hotdog, hotdog-records, sample (drawn pictures), auto (hotdog, or else sample), or a path: "
        "a folder of class folders, a zip of one, a folder with two .rec files, or Parquet",
    )
    weights: str = Field(
        "imagenet",
        description="imagenet, builtin (learnt from CIFAR-10, comes with the project), random, or a .params, .onnx, "
        ".pth or .npz file of SqueezeNet 1.1",
    )
    epochs: int | None = Field(None, ge=1, le=10_000, description="epochs of the first stage; default: the recipe's")
    views: int | None = Field(
        None,
        ge=0,
        le=64,
        description="views kept of each training picture; 0: fresh ones each epoch; default: the recipe's",
    )
    finetune: int = Field(0, ge=0, le=10_000, description="epochs of a second stage that trains all layers")
    positive: str | None = Field(None, description="class that F1 is about; default: hotdog, or the mean of all")

    def check(self) -> None:
        """Refuse also a file of weights that is not there."""
        super().check()
        fetching.check_weights(self.weights)


@runs.flow(name="hotdog")
def hotdog(settings: HotdogSettings = HotdogSettings()) -> Reference:  # noqa: B008  (frozen)
    """Photos in, published classifier out; each step is cached and shows in the Prefect UI."""
    settings.check()
    runs.require_block(settings.notify)
    store, models = settings.store.absolute(), settings.models.absolute()
    seed, device, positive = settings.seed, resolve_auto(settings.device), settings.positive
    mirror = settings.mirror or os.environ.get(MIRROR)
    recipe = hotdog_recipe(settings.recipe, settings.epochs, settings.views, settings.finetune)

    data = fetching.choose_data(settings.data, store, mirror)
    weights_name = fetching.choose_weights(settings.weights, data, store, mirror)
    name = model_name(data, settings.name)
    published = versions(models / name)

    source = fetching.fetch_data(data, store, mirror, seed)
    dataset = preparing.prepare(source, store, second_part_validates=settings.recipe == "notebook")
    preparing.check_positive(dataset, positive)
    if reason := runs.too_few_new(dataset, published, settings.min_new):
        return runs.ended(reason, published[-1])
    weights = fetching.fetch_weights(weights_name, store, mirror, seed)
    checkpoint = weights
    for stage in recipe.stages:
        if stage.views:
            inputs = preparing.embed(dataset, weights, stage.views, seed, device, store)
        else:
            inputs = preparing.pack(dataset, store)
        checkpoint = training.train(stage, inputs, dataset, checkpoint, positive, seed, device, store)
    report = evaluating.evaluate(checkpoint, PRETRAINED, dataset, positive, device, store)
    version = publishing.publish(
        name, PRETRAINED, checkpoint, report, source, dataset, weights, recipe, positive, seed, device, models
    )
    return runs.ended(runs.what_happened(version, published), version.path)


if __name__ == "__main__":
    run_flow(HotdogSettings, hotdog)
