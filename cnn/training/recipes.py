"""Recipes: the presets of a training. They hold only their differences from the defaults, which are the notebook's."""

from dataclasses import replace
from typing import Any, Literal

from cnn.data.images import Preprocessing
from cnn.training.hyperparameters import FromScratch, HeadStage, ImageStage, Recipe, Stage

RecipeName = Literal["tuned", "notebook"]

HOTDOG_RECIPES: dict[RecipeName, Recipe[Stage]] = {
    "notebook": Recipe[Stage](name="notebook", stages=(ImageStage(),), chooses_on_test=True),
    "tuned": Recipe[Stage](name="tuned", stages=(HeadStage(),)),
}


def hotdog_recipe(
    name: RecipeName = "tuned",
    *,
    epochs: int | None = None,
    center_only: bool = False,
    keep_validation: bool = False,
) -> Recipe[Stage]:
    """A preset, with other epochs.

    With ``center_only`` the network answers without its answer for the mirror image; with ``keep_validation`` its head
    does not learn from validation images.

    Raises:
        ValueError: the recipe has no such setting or does not allow the value.

    >>> hotdog_recipe(center_only=True).stages[0].mirrored_mean
    False
    """
    recipe = HOTDOG_RECIPES[name]
    (stage,) = recipe.stages
    changes: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    if isinstance(stage, HeadStage):
        if epochs is not None:
            raise ValueError(f"recipe {name} solves the head and has no epochs: set none")
        changes |= {"keep_validation": keep_validation, "mirrored_mean": not center_only}
    elif center_only:
        raise ValueError(f"recipe {name} answers by the center only anyway: do not set center_only")
    elif keep_validation:
        raise ValueError(f"recipe {name} keeps the validation images anyway: do not set keep_validation")
    return recipe.replace(stages=(stage.replace(**changes),))


#: Recipe → architecture → differences; ``""`` holds those of all architectures. In brackets: by how many points of
#: validation accuracy AlexNet; VGG; SqueezeNet are worse without it, -: not measured. ``python
#: benchmarks/cifar_vs_notebook.py --variants tuned ablations --images 8000 --epochs 5`` (VGG: 3), n 1, standard
#: error 1. With a *: VGG after seven epochs, of all images, or, without mirror and shift, of ``--images 16000``;
#: after three of 8000 it is still 2.5 better without these two.
CIFAR_RECIPES: dict[RecipeName, dict[str, dict[str, Any]]] = {
    "notebook": {"vgg": {"learning_rate": 0.05}},
    "tuned": {
        "": {
            "preprocessing": Preprocessing.whole(32),  # [5.2; 0.6; 11.7] stretching hides brightness, contrast
            "noise": 0.0,  # [with preprocessing] the next two vary the images more
            "mirror": True,  # [0.8; 2.2* with shift; 0.9] none of the ten classes has a side
            "shift": 2,  # [0.5; with mirror; 0.8] what is shown is not always in the middle
            "initializer": "whitening",  # [15.2; 15.7; -] xavier loses 40 % a layer; VGG early: .51, with he .43
            "learning_rate": 0.02,  # [9.9 with momentum; -; -]
            "momentum": 0.9,  # twice the notebook's rate, and smoother
            "schedule": "linear",  # [diverges; 10.4; 5.2, with warm-up] ends without oscillating
            "warm_up": 0.2,
            "weight_decay": 5e-4,  # [1.4; -; -]
            "label_smoothing": 0.1,  # [1.7; -0.5*; 1.1] on test VGG is .6 better with it
            "mirrored_mean": True,  # [0.4; 1.4*; -] a prediction costs twice
            "remeasure": False,  # as written it takes a third of the training's time again
        },
        "alexnet": {
            "preprocessing": Preprocessing.whole(
                48
            ),  # its first layer's stride of 4 leaves 8 × 8 of 32 px, 12 × 12 of 48
            "batch_size": 128,  # [-0.3] a quarter faster: 24 million parameters change half as often
            "shift": 3,  # of 48 px as 2 of 32
        },
        "vgg": {
            "batch_size": 32,  # [2.1] twice as many updates cost a tenth more time
            "optimizer": "adam",  # [7.4 with rate and decay]
            "momentum": 0.0,  # Adam has its own
            "learning_rate": 7e-4,  # at 1.2e-3 .6 better after one epoch of 36,000 images; not tried to the end
            "warm_up": 0.1,  # this and the decay were chosen by short runs
            "weight_decay": 0.1,  # decoupled: weights shrink by 0.1 × rate a step
            "dropout": 0.0,  # [15.7] seven epochs are too few to overfit by much
        },
        "squeezenet": {
            "preprocessing": Preprocessing.whole(64),  # 32 px leave 1 × 1 of its last maps; 96 px take twice the time
            "mirrored_mean": False,  # its features are used, not its predictions
            "initializer": "he",  # [14.5] its features are for photos, not as smooth as enlarged images of 32 px
            "optimizer": "adam",  # [9.4 with rate]
            "momentum": 0.0,
            "learning_rate": 1e-3,
            "weight_decay": 0.0,  # the one above is for SGD
            "shift": 4,  # of 64 px as 2 of 32
            "epochs": 12,  # a quarter of an hour on 2 cores
        },
    },
}


def cifar_recipe(
    name: RecipeName, architecture: str, *, epochs: int | None = None, side: int | None = None
) -> Recipe[FromScratch]:
    """A preset for one architecture, a single stage, with other epochs or another side of the images, px.

    Raises:
        ValidationError: there is no such architecture, or it does not allow the value.

    >>> [cifar_recipe("notebook", name).stages[0].learning_rate for name in ("alexnet", "vgg")]
    [0.1, 0.05]
    """
    preset = CIFAR_RECIPES[name]
    stage = FromScratch(architecture=architecture, **preset.get("", {}) | preset.get(architecture, {}))
    changes: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    if side is not None:
        changes["preprocessing"] = replace(stage.preprocessing, short_side=side, crop=side)
    chooses_on_test = HOTDOG_RECIPES[name].chooses_on_test
    return Recipe[FromScratch](name=name, stages=(stage.replace(**changes),), chooses_on_test=chooses_on_test)
