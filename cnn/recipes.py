"""How a network is trained: stages with all their settings, and two presets that hold only their differences."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Augmentation(_Frozen):
    """What ``mxnet.io.ImageRecordIter`` does at random to a training picture; defaults are the notebook's."""

    min_random_scale: float = 0.75
    max_random_scale: float = 1.5
    min_img_size: float = 256
    rand_crop: bool = True
    rand_mirror: bool = True
    random_resized_crop: bool = False
    min_random_area: float = 1.0
    max_random_area: float = 1.0
    min_aspect_ratio: float | None = None
    max_aspect_ratio: float = 0.0


class Stage(_Frozen):
    """One training: which parameters learn, from what, for how long and how. Defaults are the notebook's."""

    trains: Literal["output", "all"] = "output"
    #: cached features of this many views of each picture; 0: fresh augmented pictures through the whole network
    views: int = Field(0, ge=0, le=64)
    augmentation: Augmentation = Augmentation()
    epochs: int = Field(10, ge=0)
    batch_size: int = Field(64, ge=1)
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = Field(0.01, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    #: share of the stage during which the learning rate rises from 0
    warm_up: float = Field(0.0, ge=0, lt=1)
    #: decoupled from the gradient (Loshchilov & Hutter 2019), relative to the learning rate
    weight_decay: float = Field(0.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    #: ``notebook``: (1 + 5 y) / 5, that is 6/5 for the positive class and 1/5 for others; ``balanced``: from the data
    class_weights: Literal["notebook", "balanced"] = "notebook"


class Recipe(_Frozen):
    """Stages that follow one another, each from the best checkpoint so far."""

    name: str
    stages: tuple[Stage, ...]


_OUTPUT_STAGE = Stage(
    views=4,  # the centre and three random ones; embedding is what takes the time
    epochs=18,
    batch_size=32,
    optimizer="adam",  # SGD at the notebook's rate is far from converged after ten epochs
    learning_rate=3e-3,
    schedule="cosine",
    weight_decay=2.5,  # cross-validated F1 .87 at .5, .88 from 1.5 to 4, .87 at 8
    class_weights="balanced",  # the notebook's weights suit its own 8:1 imbalance and no other
)

_FINETUNING_STAGE = Stage(
    trains="all",
    augmentation=Augmentation(
        min_random_scale=1,
        max_random_scale=1,
        rand_crop=False,  # these three exclude random_resized_crop, which crops part of the picture at any scale
        random_resized_crop=True,
        min_random_area=0.3,
        min_aspect_ratio=0.75,
        max_aspect_ratio=1.33,
    ),
    batch_size=32,
    optimizer="adam",
    learning_rate=4e-5,  # at 1e-4 the first epochs undo what the output block has learnt
    schedule="cosine",
    warm_up=0.1,
    label_smoothing=0.1,
    class_weights="balanced",
)

RECIPES: dict[str, Recipe] = {
    "notebook": Recipe(name="notebook", stages=(Stage(),)),
    "tuned": Recipe(name="tuned", stages=(_OUTPUT_STAGE,)),
}


def hotdog_recipe(
    name: Literal["tuned", "notebook"], epochs: int | None = None, views: int | None = None, finetune: int = 0
) -> Recipe:
    """A preset with other epochs or views in its first stage, and ``finetune`` epochs of training all layers.

    >>> [stage.epochs for stage in hotdog_recipe("notebook", epochs=3, finetune=2).stages]
    [3, 2]
    """
    wanted = {"epochs": epochs, "views": views}
    changes = {setting: value for setting, value in wanted.items() if value is not None}
    first, *rest = RECIPES[name].stages
    if finetune:
        rest = [*rest, _FINETUNING_STAGE.model_copy(update={"epochs": finetune})]
    return Recipe(name=name, stages=(first.model_copy(update=changes), *rest))
