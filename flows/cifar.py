"""The notebook's networks trained, compared, the best published: python flows/cifar.py (--help lists all settings)."""

import os
import sys
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, Python looks in flows/ only

from cnn.architectures import ARCHITECTURES, LARGEST_SIDE, require_architecture, require_side
from cnn.backend import resolve_auto
from cnn.commandline import run_flow
from cnn.comparison import best_of
from cnn.files import Reference
from cnn.hyperparameters import FromScratch, Recipe
from cnn.publication import versions
from cnn.recipes import cifar_recipe
from cnn.settings import MIRROR, FlowSettings, model_name
from tasks import evaluating, fetching, preparing, publishing, runs, training

Architecture = Annotated[
    str, AfterValidator(require_architecture), Field(json_schema_extra={"enum": list(ARCHITECTURES)})
]


class CifarSettings(FlowSettings):
    """Train several architectures from scratch on small pictures, compare them, and publish the best."""

    data: str = Field(
        "cifar10",
        description="cifar10, or a path: a folder of CIFAR-10 batches (.bin) or the archive of them, a folder of class "
        "folders, a zip of one, or Parquet; hotdog, hotdog-records and sample, too",
    )
    architectures: tuple[Architecture, ...] = Field(
        ("alexnet", "vgg"),
        min_length=1,
        description=f"which of {', '.join(ARCHITECTURES)} to train, separated by commas",
    )
    epochs: int | None = Field(None, ge=1, le=10_000, description="default: the recipe's")
    side: int | None = Field(
        None, ge=1, le=LARGEST_SIDE, description="px to which pictures are resized; default: the recipe's"
    )

    @property
    def recipes(self) -> dict[str, FromScratch]:
        """How each architecture is trained."""
        return {each: cifar_recipe(self.recipe, each, self.epochs, self.side) for each in self.architectures}

    def check(self) -> None:
        """Refuse also pictures that are too small for an architecture."""
        super().check()
        for architecture, recipe in self.recipes.items():
            require_side(architecture, recipe.input.crop)


@runs.flow(name="cifar")
def cifar(settings: CifarSettings = CifarSettings()) -> Reference:  # noqa: B008  (frozen)
    """Small pictures in, the best of several networks out; each step is cached and shows in the Prefect UI."""
    settings.check()
    runs.require_block(settings.notify)
    store, models, seed = settings.store.absolute(), settings.models.absolute(), settings.seed
    recipes, mirror = settings.recipes, settings.mirror or os.environ.get(MIRROR)
    device = resolve_auto(settings.device, every=len(settings.architectures) > 1)  # one for each network

    data = fetching.choose_data(settings.data, store, mirror)
    name = model_name(data, settings.name)
    published = versions(models / name)

    source = fetching.fetch_data(data, store, mirror, seed)
    dataset = preparing.prepare(source, store, second_part_validates=settings.recipe == "notebook")
    if reason := runs.too_few_new(dataset, published, settings.min_new):
        return runs.ended(reason, published[-1])
    pixels = preparing.pack_pixels_of_each(recipes, dataset, store)
    checkpoints, failures = training.train_architectures(recipes, pixels, dataset, seed, device, store)
    reports = {
        architecture: evaluating.evaluate(checkpoint, recipes[architecture].design, dataset, None, device, store)
        for architecture, checkpoint in checkpoints.items()
    }
    comparison = evaluating.compare(checkpoints, reports, dataset, store)
    best = best_of(comparison.path)
    version = publishing.publish(
        name,
        recipes[best].design,
        checkpoints[best],
        comparison,
        source,
        dataset,
        weights=None,
        recipe=Recipe(name=settings.recipe, stages=(recipes[best],)),
        positive=None,
        seed=seed,
        device=device,
        models=models,
    )
    training.complain(failures, version)
    return runs.ended(runs.what_happened(version, published), version.path)


if __name__ == "__main__":
    run_flow(CifarSettings, cifar)
