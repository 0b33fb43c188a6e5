"""Hyper-parameters: all settings of a training, typed and validated. `cnn.training.recipes` holds the presets.

Defaults are the notebook's.
"""

from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cnn.data.images import Preprocessing
from cnn.networks.architectures import NetworkConfig
from cnn.networks.initializers import Initializer

_STRENGTHS = tuple(round(10 ** (step / 3), 5) for step in range(-9, 4))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def replace(self, **changes: Any) -> Self:
        """The same settings with some changed, validated like any others.

        Raises:
            ValidationError: the changed settings are not allowed.
        """
        return type(self)(**dict(self) | changes)


class Augmentation(_Frozen):
    """What ``mxnet.io.ImageRecordIter`` does at random to a training image."""

    min_random_scale: float = 0.75
    max_random_scale: float = 1.5
    min_img_size: float = 256
    rand_crop: bool = True
    rand_mirror: bool = True


class Training(_Frozen):
    """How parameters are trained, whichever they are and from whatever inputs."""

    epochs: int = Field(10, ge=0)
    batch_size: int = Field(64, ge=1)
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = Field(0.01, gt=0)
    #: of SGD; Nesterov's takes MXNet more than twice the time
    momentum: float = Field(0.0, ge=0, lt=1)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    #: share of the training during which the learning rate rises from 0
    warm_up: float = Field(0.0, ge=0, lt=1)
    #: of weights and not of biases, relative to the learning rate; SGD adds it to the gradient, for Adam it is
    #: decoupled from the gradient (Loshchilov & Hutter 2019)
    weight_decay: float = Field(0.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    #: ``notebook``: (1 + 5 y) / 5, that is 6/5 for the positive class and 1/5 for others; ``balanced``: from the data
    class_weights: Literal["equal", "notebook", "balanced"] = "equal"
    #: the validation metric by which the epoch to keep is chosen
    chosen_by: Literal["f1", "accuracy"] = "f1"
    #: whether metrics of the training images are measured after each epoch, and not during it
    remeasure: bool = False

    @property
    def name(self) -> str:
        """What is trained, in words."""
        raise NotImplementedError


class HeadStage(_Frozen):
    """A stage of transfer learning that solves the head on the frozen network's mean features."""

    #: whether the network, once published, answers with the mean over the middle of an image and its mirror image
    mirrored_mean: bool = True
    #: of the L2 penalty on standardised weights, relative to an image's mean loss: from these the best is taken
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(_STRENGTHS, min_length=1)
    #: parts of the images, each of which is measured by a head solved without it
    folds: int = Field(5, ge=2)
    #: ``balanced``: each class has the same sum
    class_weights: Literal["equal", "balanced"] = "balanced"
    #: whether validation images stay untouched, as they do anyway where there are no test images
    keep_validation: bool = False
    #: the metric by which versions are compared
    chosen_by: Literal["f1", "accuracy"] = "f1"

    @property
    def name(self) -> str:
        """What is solved, in words."""
        return "head"


class ImageStage(Training):
    """A stage of transfer learning that trains a new output block on augmented images, new ones each epoch."""

    augmentation: Augmentation = Augmentation()
    class_weights: Literal["equal", "notebook", "balanced"] = "notebook"

    @property
    def name(self) -> str:
        """What is trained, in words."""
        return "output block"


Stage = HeadStage | ImageStage


class FromScratch(Training, NetworkConfig):
    """A training of a whole architecture from random parameters; defaults are the notebook's for AlexNet."""

    preprocessing: Preprocessing = Preprocessing.whole(32, stretched=True)
    initializer: Initializer = "xavier"
    #: share of the values that dropout layers drop during training; None: as the architecture says
    dropout: float | None = Field(None, ge=0, lt=1)
    #: deviation of what is added to each value of a training image, once and for all, before it is cut to 0…1
    noise: float = Field(0.01, ge=0)
    #: whether a training image is mirrored half of the time
    mirror: bool = False
    #: by how many px at most a training image is moved each way; what comes in is its mirror image
    shift: int = Field(0, ge=0)
    epochs: int = Field(7, ge=0)
    learning_rate: float = Field(0.1, gt=0)
    chosen_by: Literal["f1", "accuracy"] = "accuracy"
    remeasure: bool = True

    @model_validator(mode="after")
    def _check_noise(self) -> "FromScratch":
        if self.noise and self.preprocessing.mean:
            raise ValueError("noise is added to values 0…1 only: set it to 0, or let the images be stretched")
        return self

    @property
    def name(self) -> str:
        """What is trained, in words."""
        return self.architecture

    @property
    def network(self) -> NetworkConfig:
        """What kind of network is trained."""
        return NetworkConfig(**{name: getattr(self, name) for name in NetworkConfig.model_fields})


Kind = TypeVar("Kind", HeadStage | ImageStage, FromScratch)


class Recipe(_Frozen, Generic[Kind]):
    """Stages that follow one another, each from the best checkpoint so far.

    With ``chooses_on_test`` the source's test images take the place of validation images, as in the notebook, and
    there are no test metrics.
    """

    name: str
    stages: tuple[Kind, ...]
    chooses_on_test: bool = False
