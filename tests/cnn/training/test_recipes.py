"""Settings that make no sense cannot be built, and presets change as asked."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from cnn.data.images import PHOTO, Preprocessing
from cnn.training.hyperparameters import FromScratch, HeadStage, ImageStage, Recipe
from cnn.training.recipes import CIFAR_RECIPES, HOTDOG_RECIPES, cifar_recipe, hotdog_recipe

SENSELESS: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "epochs of a head": (HeadStage, {"epochs": 3}, "epochs"),
    "augmented features": (HeadStage, {"augmentation": {}}, "augmentation"),
    "no strengths": (HeadStage, {"strengths": ()}, "strengths"),
    "no penalty": (HeadStage, {"strengths": (0.1, 0.0)}, "strengths"),
    "one fold": (HeadStage, {"folds": 1}, "folds"),
    "mean of augmented images": (ImageStage, {"mirrored_mean": True}, "mirrored_mean"),
    "negative epochs": (ImageStage, {"epochs": -5}, "epochs"),
    "empty batches": (ImageStage, {"batch_size": 0}, "batch_size"),
    "no rate": (ImageStage, {"learning_rate": 0}, "learning_rate"),
    "endless momentum": (ImageStage, {"momentum": 1}, "momentum"),
    "endless warm-up": (ImageStage, {"warm_up": 1}, "warm_up"),
    "negative decay": (ImageStage, {"weight_decay": -0.1}, "weight_decay"),
    "full smoothing": (ImageStage, {"label_smoothing": 1}, "label_smoothing"),
    "unknown optimizer": (ImageStage, {"optimizer": "lion"}, "optimizer"),
    "unknown metric": (ImageStage, {"chosen_by": "recall"}, "chosen_by"),
    "unknown architecture": (FromScratch, {"architecture": "resnet"}, "choose from alexnet, vgg, squeezenet"),
    "small images": (FromScratch, {"architecture": "vgg", "preprocessing": Preprocessing.whole(15)}, "16 × 16 px"),
    "noise on other scales": (FromScratch, {"architecture": "vgg", "preprocessing": PHOTO}, "noise"),
    "full dropout": (FromScratch, {"architecture": "vgg", "dropout": 1}, "dropout"),
    "negative shift": (FromScratch, {"architecture": "vgg", "shift": -1}, "shift"),
}
VALID: dict[Any, Any] = {
    HeadStage: HeadStage(),
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
    stage = ImageStage()
    with pytest.raises(ValidationError, match="frozen"):
        stage.epochs = -5  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        stage.replace(epochs=3).epochs = -5  # type: ignore[misc]


@pytest.mark.parametrize("stage", [ImageStage(), FromScratch(architecture="vgg")])
def test_replace_changes_nothing_else(stage: Any) -> None:
    changed = stage.replace(epochs=3, weight_decay=0.5)
    assert type(changed) is type(stage)
    assert dict(changed) == dict(stage) | {"epochs": 3, "weight_decay": 0.5}
    assert (stage.epochs, stage.weight_decay) != (3, 0.5)
    assert changed.replace(epochs=stage.epochs, weight_decay=stage.weight_decay) == stage


def test_stages_say_what_they_train() -> None:
    stages: list[Any] = [HeadStage(), ImageStage(), FromScratch(architecture="vgg")]
    assert [stage.name for stage in stages] == ["head", "output block", "vgg"]


# ---- presets


def test_hotdog_recipe_changes_its_stage() -> None:
    (tuned,) = HOTDOG_RECIPES["tuned"].stages
    assert hotdog_recipe() == HOTDOG_RECIPES["tuned"] and isinstance(tuned, HeadStage)
    assert hotdog_recipe("tuned", center_only=True).stages == (tuned.replace(mirrored_mean=False),)
    assert hotdog_recipe("tuned", keep_validation=True).stages == (tuned.replace(keep_validation=True),)
    assert hotdog_recipe("notebook", epochs=0).stages == (ImageStage(epochs=0),)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("notebook", {"center_only": True}, "recipe notebook answers by the center only anyway"),
        ("notebook", {"keep_validation": True}, "recipe notebook keeps the validation images anyway"),
        ("tuned", {"epochs": 3}, "recipe tuned solves the head and has no epochs: set none"),
    ],
)
def test_recipe_refuses_what_it_does_not_have(name: Any, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        hotdog_recipe(name, **setting)
    assert not isinstance(error.value, ValidationError)


def test_recipe_validates_its_changes() -> None:
    with pytest.raises(ValidationError):
        hotdog_recipe("notebook", epochs=-5)


def test_notebook_hyperparameters() -> None:
    """As they stand in the notebook's cells."""
    (stage,) = hotdog_recipe("notebook").stages
    assert isinstance(stage, ImageStage)
    assert (stage.optimizer, stage.learning_rate, stage.momentum) == ("sgd", 0.01, 0)
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
    for recipe in (hotdog_recipe("tuned"), hotdog_recipe("notebook"), cifar_recipe("tuned", "alexnet")):
        kind: Any = type(recipe)
        assert issubclass(kind, Recipe)
        assert kind.model_validate_json(recipe.model_dump_json()) == recipe
