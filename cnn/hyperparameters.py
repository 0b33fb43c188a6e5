"""How a network is trained: all settings of a training; `cnn.recipes` holds the presets."""

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cnn.pictures import PHOTO, Input

Initializer = Literal["xavier", "he", "whitening"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Design(_Frozen):
    """What kind of network it is: its architecture, one of `cnn.architectures.ARCHITECTURES`, and what it takes."""

    architecture: str
    input: Input
    #: whether it answers with the mean of its outputs for a picture and for the picture's mirror image
    mirrored_mean: bool = False


#: SqueezeNet as it was pretrained on ImageNet.
PRETRAINED = Design(architecture="squeezenet", input=PHOTO)


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


class Training(_Frozen):
    """For how long and how parameters learn, whichever they are and whatever from."""

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
    #: by which figure on validation the epoch to keep is chosen
    chosen_by: Literal["f1", "accuracy"] = "f1"
    #: whether accuracy on the training pictures is measured after each epoch, and not while it learns
    remeasure: bool = False


class Stage(Training):
    """A training of a pretrained network: which parameters learn, and from what. Defaults are the notebook's."""

    trains: Literal["output", "all"] = "output"
    #: cached features of this many views of each picture; 0: fresh augmented pictures through the whole network
    views: int = Field(0, ge=0, le=64)
    augmentation: Augmentation = Augmentation()
    #: what each bias of a fresh output block starts from
    output_bias: float = 0.0
    class_weights: Literal["equal", "notebook", "balanced"] = "notebook"


class FromScratch(Training, Design):
    """A training of a whole architecture from random parameters. Defaults are the notebook's for AlexNet."""

    input: Input = Input.whole(32, stretched=True)
    #: ``xavier``: the notebook's, of magnitude 2.24; ``he`` and ``whitening``: see `cnn.initializers`
    initializer: Initializer = "xavier"
    #: share of the values that dropout layers drop while the network learns; None: as it is written
    dropout: float | None = Field(None, ge=0, lt=1)
    #: deviation of what is added to each value of a training picture, once and for all, before it is cut to 0…1
    noise: float = Field(0.01, ge=0)
    #: whether a training picture is mirrored half of the time
    mirror: bool = False
    #: by how many px at most a training picture is moved each way; what comes in is its mirror image
    shift: int = Field(0, ge=0)
    epochs: int = Field(7, ge=0)
    learning_rate: float = Field(0.1, gt=0)
    chosen_by: Literal["f1", "accuracy"] = "accuracy"
    remeasure: bool = True

    @model_validator(mode="after")
    def _check(self) -> "FromScratch":
        if self.noise and self.input.mean:
            raise ValueError("noise is added to values 0…1 only: set it to 0, or let the input be stretched")
        return self

    @property
    def design(self) -> Design:
        """What kind of network comes out."""
        return Design(**{name: getattr(self, name) for name in Design.model_fields})


Kind = TypeVar("Kind", Stage, FromScratch)


class Recipe(_Frozen, Generic[Kind]):
    """Trainings that follow one another, each from the best checkpoint so far."""

    name: str
    stages: tuple[Kind, ...]
