"""From photos to a published classifier: python flows/hotdog.py [--data FOLDER] (--help lists all settings)."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, Python looks in flows/ only

from cnn.backend import pick_devices
from cnn.catalog import DATASETS
from cnn.commandline import parse, run
from cnn.errors import UserError
from cnn.files import require_writable
from cnn.model_card import summary
from cnn.recipes import hotdog_recipe
from tasks import fetching, flow, preparing, publishing, training

MIRROR = "HOTDOG_MIRROR"


class HotdogSettings(BaseModel):
    """Train a picture classifier from photos by transfer learning, and publish it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field(
        "auto",
        description="hotdog, hotdog-records, sample (drawn pictures), auto (hotdog, or else sample), or a path: "
        "a folder of class folders, a zip of one, a folder with two .rec files, or Parquet",
    )
    weights: str = Field(
        "imagenet", description="imagenet, random, or a .params, .onnx, .pth or .npz file of SqueezeNet 1.1"
    )
    recipe: Literal["tuned", "notebook"] = Field("tuned", description="how to train")
    epochs: int | None = Field(None, ge=1, le=10_000, description="epochs of the first stage; default: the recipe's")
    views: int | None = Field(
        None,
        ge=0,
        le=64,
        description="views kept of each training picture; 0: fresh ones each epoch; default: the recipe's",
    )
    finetune: int = Field(0, ge=0, le=10_000, description="epochs of a second stage that trains all layers")
    positive: str | None = Field(None, description="class that F1 is about; default: hotdog, or the mean of all")
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|gpu(:\d+(,\d+)*)?)$")] = Field(
        "auto", description="auto, cpu, gpu, or gpu:0,1 for several"
    )
    mirror: str | None = Field(
        None, description=f"folder or URL that is asked first for every download; or environment variable {MIRROR}"
    )
    store: Path = Field(Path("data"), description="folder for downloads, prepared data, features and checkpoints")
    models: Path = Field(Path("artifacts"), description="folder for published model versions")
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")] | None = Field(
        None, description="name of the model; default: from the data"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="decides everything that is left to chance")


def model_name(data: str, wanted: str | None) -> str:
    """Name of the model: as wanted, or from the data; the sample's never is a real model's.

    Raises:
        UserError: the sample would be published under a name that does not say so.

    >>> model_name("photos/My Pets.zip", None)
    'my-pets'
    """
    if data == "sample":
        if wanted and not wanted.endswith("-sample"):
            raise UserError(f"--name {wanted}: a model of drawn pictures needs a name that ends in -sample.")
        return wanted or "hotdog-sample"
    plain = re.sub(r"[^a-z0-9]+", "-", Path(data).resolve().stem.lower()).strip("-")
    return wanted or ("hotdog" if data in DATASETS else plain or "model")


def check(settings: HotdogSettings) -> None:
    """Refuse before any work what cannot work: a GPU that cannot be used, a folder or a file that is not to be had.

    Raises:
        UserError: names the setting and what to do.
    """
    pick_devices(settings.device)
    require_writable(settings.store, "--store")
    require_writable(settings.models, "--models")
    fetching.check_weights(settings.weights)


@flow(name="hotdog")
def hotdog(settings: HotdogSettings = HotdogSettings()) -> publishing.ModelVersion:  # noqa: B008  (frozen)
    """Photos in, published classifier out; each step is cached and shows in the Prefect UI."""
    check(settings)
    store, models = settings.store.absolute(), settings.models.absolute()
    seed, device, positive = settings.seed, settings.device, settings.positive
    mirror = settings.mirror or os.environ.get(MIRROR)
    recipe = hotdog_recipe(settings.recipe, settings.epochs, settings.views, settings.finetune)

    data = fetching.choose_data(settings.data, store, mirror)
    weights_name = fetching.choose_weights(settings.weights, data, store, mirror)
    name = model_name(data, settings.name)

    source = fetching.fetch_data(data, store, mirror, seed)
    dataset = preparing.prepare(source, store, second_part_validates=settings.recipe == "notebook")
    preparing.check_positive(dataset, positive)
    weights = fetching.fetch_weights(weights_name, store, mirror, seed)
    checkpoint = weights
    for stage in recipe.stages:
        if stage.views:
            inputs = preparing.embed(dataset, weights, stage.views, seed, device, store)
        else:
            inputs = preparing.pack(dataset, store)
        checkpoint = training.train(stage, inputs, dataset, checkpoint, positive, seed, device, store)
    report = training.evaluate(checkpoint, dataset, positive, device, store)
    version = publishing.publish(
        name, checkpoint, report, source, dataset, weights, recipe, positive, seed, device, models
    )
    publishing.show(version)
    return version


def main() -> None:
    """Run the flow with settings from the command line and print what came out."""
    settings = parse(HotdogSettings)
    check(settings)  # again in the flow, but here it need not wait for Prefect's server
    print(summary(hotdog(settings).path))


if __name__ == "__main__":
    run(main)
