"""Train one network, or several side by side."""

from itertools import islice
from pathlib import Path

from prefect.futures import PrefectFuture, as_completed

from cnn.backend import pick_devices
from cnn.batches import Batches, FeatureBatches, PixelBatches, RecordBatches
from cnn.checkpoints import Checkpoint, load_checkpoint, save_checkpoint, timings_file
from cnn.datasets import Dataset
from cnn.errors import UserError
from cnn.files import Reference, text_digest
from cnn.hyperparameters import FromScratch, Stage
from cnn.learner import Classes, Learner
from cnn.metrics import positive_class
from cnn.models import fresh_model, transfer_model
from cnn.progress import stopping_together
from cnn.training import train as train_model
from cnn.weights import read_weights
from tasks.devices import Placement, lent
from tasks.steps import code_digest, identity, open_dataset, step


class TrainedNetwork(Reference):
    """A checkpoint; it counts as gone when the timings beside it are."""

    def is_intact(self) -> bool:
        return timings_file(self.path).exists() and super().is_intact()


def _classes(dataset: Dataset, positive: str | None) -> Classes:
    index = positive_class(dataset.classes, positive)
    return Classes(dataset.classes, index, tuple(dataset.counts["train"].values()))


def _train(
    learner: Learner, batches: Batches, seed: int, store: Path, key: str, earlier: Checkpoint | None
) -> Reference:
    """Train in a folder that only these inputs and this code lead to: a killed run's state is found there."""
    folder = store / "training" / text_digest(key, code_digest("cnn.training"))[:16]
    best = train_model(learner, batches, seed, folder / "state.npz", earlier)
    save_checkpoint(folder / "checkpoint.npz", best)
    trained = TrainedNetwork.to(folder / "checkpoint.npz", "checkpoint")
    (folder / "state.npz").unlink(missing_ok=True)  # three times the checkpoint's size, and of no more use
    return trained


_LEARNING = {"output": "output block", "all": "all layers"}


@step(lambda parameters: f"train {_LEARNING[parameters['stage'].trains]}")
def train(
    stage: Stage,
    inputs: Reference,
    dataset: Reference,
    start: Reference,
    positive: str | None,
    seed: int,
    device: str,
    store: Path,
) -> Reference:
    """One stage, from pretrained weights or an earlier stage's checkpoint; goes on from where it was killed."""
    pictures = open_dataset(dataset)
    batches: Batches = (FeatureBatches if stage.views else RecordBatches)(pictures, inputs.path, stage, seed)
    earlier = load_checkpoint(start.path) if start.kind == "checkpoint" else Checkpoint(read_weights(start.path))
    key = text_digest(stage, inputs.digest, dataset.digest, start.digest, positive, seed, device)
    with lent(pick_devices(device)) as devices:
        model = transfer_model(stage, len(pictures.classes), earlier.parameters, devices, seed)
        learner = Learner(stage, _classes(pictures, positive), model, devices)
        return _train(learner, batches, seed, store, key, earlier)


@step("train {settings.architecture}")
def train_architecture(
    settings: FromScratch, pixels: Reference, dataset: Reference, seed: int, where: Placement, store: Path
) -> Reference:
    """An architecture from random parameters; goes on from where it was killed."""
    pictures = open_dataset(dataset)
    batches = PixelBatches(pictures, pixels.path, settings, seed)
    key = text_digest(identity(settings), pixels.digest, dataset.digest, seed, where)
    with lent(where.devices, where.together) as devices:
        model = fresh_model(settings, len(pictures.classes), devices, seed, batches.examples())
        return _train(Learner(settings, _classes(pictures, None), model, devices), batches, seed, store, key, None)


def train_architectures(
    recipes: dict[str, FromScratch],
    pixels: dict[str, Reference],
    dataset: Reference,
    seed: int,
    device: str,
    store: Path,
) -> tuple[dict[str, Reference], dict[str, str]]:
    """Train each architecture, side by side on several GPUs, or else one after the other.

    Returns the checkpoint of each that could be trained, and why the others could not.

    Raises:
        UserError: none could be trained.
    """
    devices = pick_devices(device)
    at_once = min(len(devices), len(recipes))
    where = Placement(tuple(devices), together=at_once == 1)
    running: dict[str, PrefectFuture[Reference]] = {}
    with stopping_together():  # a run that is cancelled does not wait for trainings on other threads
        for name, settings in recipes.items():
            if (too_many := len(running) + 1 - at_once) > 0:
                list(islice(as_completed(list(running.values())), too_many))  # as many have ended
            running[name] = train_architecture.submit(settings, pixels[name], dataset, seed, where, store)
        results = {name: future.result(raise_on_failure=False) for name, future in running.items()}
    for result in results.values():
        if isinstance(result, BaseException) and not isinstance(result, UserError):
            raise result
    failures = {name: str(result) for name, result in results.items() if isinstance(result, UserError)}
    checkpoints = {name: result for name, result in results.items() if isinstance(result, Reference)}
    if not checkpoints:
        raise UserError(" ".join(failures.values()))
    return checkpoints, failures


def complain(failures: dict[str, str], version: Reference) -> None:
    """End a run in which some architecture could not be trained, after the others have been published.

    Raises:
        UserError: there is one; names the version that was published all the same.
    """
    if failures:
        raise UserError(f"{' '.join(failures.values())} The best of the others is published: {version.path}.")
