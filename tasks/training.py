"""Train one network, or several side by side."""

from itertools import islice
from pathlib import Path

from prefect.futures import PrefectFuture, as_completed

from cnn.data.datasets import Dataset
from cnn.networks.architectures import NetworkConfig
from cnn.support.backend import Devices
from cnn.support.errors import UserError
from cnn.support.files import file_digest
from cnn.support.progress import cancel_together
from cnn.support.references import Reference
from cnn.training.checkpoints import Checkpoint, checkpoint_file, pretrained, save_checkpoint
from cnn.training.hyperparameters import FromScratch, Stage
from cnn.training.scratch import train_from_scratch
from cnn.training.transfer import transfer
from cnn.training.workers import ALONE, current_workers
from tasks.caching import own_folder
from tasks.gpus import Placement, reserved
from tasks.steps import step


def _save(folder: Path, trained: Checkpoint, state_file: Path) -> Reference:
    """Write a checkpoint into its place in ``folder``; of workers that trained together, each into one of its own."""
    workers = current_workers()
    place = folder / ("checkpoint" if workers.leads else f"checkpoint-{workers.rank}")
    save_checkpoint(place, trained)
    reference = Reference.to(place, file_digest(checkpoint_file(place)))
    if workers.leads:
        state_file.unlink(missing_ok=True)  # three times the checkpoint's size, and of no more use
    return reference


@step("train {stage.name}")
def train_stage(
    stage: Stage,
    *,
    inputs: Reference,
    dataset: Reference,
    weights: Reference,
    network: NetworkConfig,
    positive: str | None,
    seed: int,
    devices: Devices,
    store: Path,
) -> Reference:
    """Transfer learning from pretrained weights; resumes if it was killed."""
    folder = own_folder(store, "training")
    state_file = folder / "state.npz"
    with reserved(Placement(devices=devices, together=True)) as own:
        trained = transfer(
            Dataset.open(dataset.path),
            pretrained(weights.path, network),
            stage,
            positive=positive,
            seed=seed,
            devices=own,
            inputs=inputs.path,
            state_file=state_file,
        )
    return _save(folder, trained, state_file)


@step("train {stage.architecture}")
def train_architecture(
    stage: FromScratch, *, pixels: Reference, dataset: Reference, seed: int, where: Placement, store: Path
) -> Reference:
    """An architecture from random parameters; resumes if it was killed."""
    folder = own_folder(store, "training")
    state_file = folder / "state.npz"
    with reserved(where) as own:
        trained = train_from_scratch(
            Dataset.open(dataset.path), stage, seed=seed, devices=own, pixels=pixels.path, state_file=state_file
        )
    return _save(folder, trained, state_file)


def train_architectures(
    stages: dict[str, FromScratch],
    pixels: dict[str, Reference],
    dataset: Reference,
    *,
    seed: int,
    devices: Devices,
    store: Path,
) -> tuple[dict[str, Reference], dict[str, str]]:
    """Train each architecture, side by side on several GPUs, else, or with other workers, one after the other.

    Returns the checkpoint of each that could be trained, and why the others could not.

    Raises:
        UserError: none could be trained.
    """
    at_once = min(len(devices.numbers), len(stages)) if current_workers() is ALONE else 1
    where = Placement(devices=devices, together=at_once == 1)
    running: dict[str, PrefectFuture[Reference]] = {}
    with cancel_together():  # a run that is cancelled does not wait for trainings on other threads
        for name, stage in stages.items():
            if (too_many := len(running) + 1 - at_once) > 0:
                list(islice(as_completed(list(running.values())), too_many))  # as many have ended
            current_workers().require_all()
            running[name] = train_architecture.submit(
                stage, pixels=pixels[name], dataset=dataset, seed=seed, where=where, store=store
            )
        results = {name: future.result(raise_on_failure=False) for name, future in running.items()}
    for result in results.values():
        if isinstance(result, BaseException) and not isinstance(result, UserError):
            raise result
    failures = {name: str(result) for name, result in results.items() if isinstance(result, UserError)}
    checkpoints = {name: result for name, result in results.items() if isinstance(result, Reference)}
    if not checkpoints:
        raise UserError(" ".join(failures.values()))
    return checkpoints, failures
