"""Settings that make no sense cannot be built, and presets change as asked."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from cnn.data.images import PHOTO, Preprocessing
from cnn.training.hyperparameters import FeatureStage, FromScratch, ImageStage, Recipe
from cnn.training.recipes import CIFAR_RECIPES, HOTDOG_RECIPES, cifar_recipe, hotdog_recipe

SENSELESS: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "features of all layers": (FeatureStage, {"trains": "all"}, "trains"),
    "augmented features": (FeatureStage, {"augmentation": {}}, "augmentation"),
    "no views": (FeatureStage, {"views": 0}, "views"),
    "too many views": (FeatureStage, {"views": 65}, "views"),
    "views of augmented images": (ImageStage, {"views": 4}, "views"),
    "unknown part": (ImageStage, {"trains": "features"}, "trains"),
    "negative epochs": (ImageStage, {"epochs": -5}, "epochs"),
    "empty batches": (FeatureStage, {"batch_size": 0}, "batch_size"),
    "no rate": (FeatureStage, {"learning_rate": 0}, "learning_rate"),
    "endless momentum": (FeatureStage, {"momentum": 1}, "momentum"),
    "endless warm-up": (FeatureStage, {"warm_up": 1}, "warm_up"),
    "negative decay": (FeatureStage, {"weight_decay": -0.1}, "weight_decay"),
    "full smoothing": (FeatureStage, {"label_smoothing": 1}, "label_smoothing"),
    "unknown optimizer": (FeatureStage, {"optimizer": "lion"}, "optimizer"),
    "unknown metric": (FeatureStage, {"chosen_by": "recall"}, "chosen_by"),
    "unknown architecture": (FromScratch, {"architecture": "resnet"}, "choose from alexnet, vgg, squeezenet"),
    "small images": (FromScratch, {"architecture": "vgg", "preprocessing": Preprocessing.whole(15)}, "16 × 16 px"),
    "noise on other scales": (FromScratch, {"architecture": "vgg", "preprocessing": PHOTO}, "noise"),
    "full dropout": (FromScratch, {"architecture": "vgg", "dropout": 1}, "dropout"),
    "negative shift": (FromScratch, {"architecture": "vgg", "shift": -1}, "shift"),
}
VALID: dict[Any, Any] = {
    FeatureStage: FeatureStage(),
    ImageStage: ImageStage(),
    FromScratch: FromScratch(architecture="vgg"),
}


@pytest.mark.parametrize("case", SENSELESS)
def test_senseless_settings_cannot_be_built(case: str) -> None:
    kind, settings, message = SENSELESS[case]
    with pytest.raises(ValidationError, match=message):
        kind(**settings)
    with pytest.raises(ValidationError, match=message):
        VALID[kind].replace(**settings)


def test_settings_cannot_be_changed_in_place() -> None:
    stage = FeatureStage()
    with pytest.raises(ValidationError, match="frozen"):
        stage.epochs = -5  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        stage.replace(epochs=3).epochs = -5  # type: ignore[misc]


@pytest.mark.parametrize("stage", [FeatureStage(views=2), ImageStage(trains="all"), FromScratch(architecture="vgg")])
def test_replace_changes_nothing_else(stage: Any) -> None:
    changed = stage.replace(epochs=3, weight_decay=0.5)
    assert type(changed) is type(stage)
    assert dict(changed) == dict(stage) | {"epochs": 3, "weight_decay": 0.5}
    assert (stage.epochs, stage.weight_decay) != (3, 0.5)
    assert changed.replace(epochs=stage.epochs, weight_decay=stage.weight_decay) == stage


def test_stages_say_what_they_train() -> None:
    stages = [FeatureStage(), ImageStage(), ImageStage(trains="all"), FromScratch(architecture="vgg")]
    assert [stage.name for stage in stages] == ["output block", "output block", "all layers", "vgg"]


# ---- presets


def test_hotdog_recipe_changes_its_first_stage() -> None:
    (tuned,) = HOTDOG_RECIPES["tuned"].stages
    assert hotdog_recipe() == HOTDOG_RECIPES["tuned"] and isinstance(tuned, FeatureStage)
    assert hotdog_recipe("tuned", epochs=3, views=2).stages == (tuned.replace(epochs=3, views=2),)
    first, second = hotdog_recipe("tuned", epochs=3, finetune=2).stages
    assert first == tuned.replace(epochs=3)
    assert isinstance(second, ImageStage) and second.trains == "all" and second.epochs == 2
    assert hotdog_recipe("notebook", epochs=0).stages == (ImageStage(epochs=0),)


def test_notebook_recipe_keeps_no_views() -> None:
    with pytest.raises(ValueError, match="recipe notebook augments images anew each epoch and keeps no views") as error:
        hotdog_recipe("notebook", views=3)
    assert not isinstance(error.value, ValidationError)


@pytest.mark.parametrize("changes", [{"epochs": -5}, {"views": 0}, {"finetune": -1}], ids=str)
def test_recipe_validates_its_changes(changes: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        hotdog_recipe("tuned", **changes)


def test_notebook_hyperparameters() -> None:
    """As they stand in the notebook's cells."""
    (stage,) = hotdog_recipe("notebook").stages
    assert isinstance(stage, ImageStage)
    assert (stage.trains, stage.optimizer, stage.learning_rate, stage.momentum) == ("output", "sgd", 0.01, 0)
    assert (stage.epochs, stage.batch_size, stage.class_weights) == (10, 64, "notebook")
    augmentation = stage.augmentation
    assert (augmentation.min_random_scale, augmentation.max_random_scale) == (0.75, 1.5)
    assert (augmentation.min_img_size, augmentation.rand_crop, augmentation.rand_mirror) == (256, True, True)
    for architecture, rate in (("alexnet", 0.1), ("vgg", 0.05)):
        (scratch,) = cifar_recipe("notebook", architecture).stages
        assert (scratch.epochs, scratch.batch_size, scratch.learning_rate) == (7, 64, rate)
        assert (scratch.optimizer, scratch.momentum, scratch.weight_decay, scratch.noise) == ("sgd", 0, 0, 0.01)
        assert (scratch.initializer, scratch.schedule, scratch.mirrored_mean) == ("xavier", "constant", False)
        assert scratch.preprocessing == Preprocessing.whole(32, stretched=True)


def test_only_the_notebook_chooses_on_test() -> None:
    for recipe in ("notebook", "tuned"):
        chooses = [hotdog_recipe(recipe).chooses_on_test, cifar_recipe(recipe, "vgg").chooses_on_test]
        assert chooses == [recipe == "notebook"] * 2


@pytest.mark.parametrize("architecture", ["alexnet", "vgg", "squeezenet"])
@pytest.mark.parametrize("name", ["notebook", "tuned"])
def test_cifar_recipe_joins_its_tables(name: Any, architecture: str) -> None:
    recipe = cifar_recipe(name, architecture)
    (stage,) = recipe.stages
    table = CIFAR_RECIPES[name]
    expected = {**dict(FromScratch(architecture=architecture)), **table.get("", {}), **table.get(architecture, {})}
    assert dict(stage) == expected and recipe.name == name


def test_cifar_recipe_changes_epochs_and_side() -> None:
    (preset,), (changed,) = (cifar_recipe("tuned", "vgg", **each).stages for each in ({}, {"epochs": 3, "side": 40}))
    assert dict(changed) == dict(preset) | {"epochs": 3, "preprocessing": Preprocessing.whole(40)}
    (stretched,) = cifar_recipe("notebook", "vgg", side=40).stages
    assert stretched.preprocessing == Preprocessing.whole(40, stretched=True)
    with pytest.raises(ValidationError, match="16 × 16 px or more"):
        cifar_recipe("tuned", "vgg", side=15)


def test_recipe_survives_json() -> None:
    for recipe in (hotdog_recipe("tuned", finetune=2), hotdog_recipe("notebook"), cifar_recipe("tuned", "alexnet")):
        kind: Any = type(recipe)
        assert issubclass(kind, Recipe)
        assert kind.model_validate_json(recipe.model_dump_json()) == recipe
