"""Bring the data and the pretrained weights here, verified."""

import logging
from pathlib import Path

from cnn.catalog import DATASETS, WEIGHTS
from cnn.checkpoints import save_parameters
from cnn.downloads import available, obtain
from cnn.errors import UserError
from cnn.files import Reference
from cnn.networks import random_parameters
from cnn.sample import write_sample
from cnn.sources import kind_of
from cnn.weights import read_weights
from tasks.steps import step

#: What `--weights` knows by name.
_NAMED = (*WEIGHTS, "random")

logger = logging.getLogger("cnn.fetching")


def downloads_folder(store: Path, name: str) -> Path:
    """Where the files of a catalog entry are kept."""
    return store / "downloads" / name


def choose_data(data: str, store: Path, mirror: str | None) -> str:
    """Turn ``auto`` into ``hotdog`` if that is here or can be had now, or else into ``sample``, and say so.

    A path comes out absolute, so that what is cached for it is not taken for another folder's.
    """
    if data != "auto":
        return data if data in (*DATASETS, "sample") else _absolute(data)
    files = DATASETS["hotdog"].files
    if available(files, downloads_folder(store, "hotdog"), mirror) == list(files):
        return "hotdog"
    logger.warning(
        "The hotdog photos are not here and cannot be had now: going on with the drawn SAMPLE, not with photos. "
        "Name your own with --data FOLDER, or a copy of hotdog.zip with --mirror FOLDER_OR_URL."
    )
    return "sample"


def choose_weights(weights: str, data: str, store: Path, mirror: str | None) -> str:
    """``weights``, but the built-in ones for the sample if ImageNet's cannot be had now; says so.

    A path comes out absolute.
    """
    if weights not in _NAMED:
        return _absolute(weights)
    if weights != "imagenet" or data != "sample":
        return weights
    if available(WEIGHTS["imagenet"], downloads_folder(store, "imagenet"), mirror):
        return "imagenet"
    logger.warning("ImageNet weights cannot be had now: the sample run starts from the BUILT-IN features.")
    return "builtin"


def check_weights(weights: str) -> None:
    """Refuse weights that are neither known by name nor a file.

    Raises:
        UserError: names the choices.
    """
    if weights not in _NAMED and not Path(weights).expanduser().is_file():
        raise UserError(f"--weights {weights}: there is no such file; name one or choose from {', '.join(_NAMED)}.")


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


@step(lambda parameters: f"fetch {Path(parameters['data']).stem}")
def fetch_data(data: str, store: Path, mirror: str | None, seed: int) -> Reference:
    """A catalogued dataset, the drawn sample, or the user's own pictures, as a reference to verified content."""
    if data == "sample":
        path = downloads_folder(store, "sample") / f"sample-{seed}.zip"
        write_sample(path, seed)
        return Reference.to(path, "sample")
    if data in DATASETS:
        folder = downloads_folder(store, data)
        entry = DATASETS[data]
        instead = "Name your own pictures with --data FOLDER, or a copy of the file with --mirror FOLDER_OR_URL."
        paths = [obtain([file], folder, mirror, instead) for file in entry.files]
        path = paths[0] if len(paths) == 1 else folder
    else:
        path = Path(data)
    return Reference.to(path, kind_of(path))


@step(lambda parameters: f"fetch {Path(parameters['weights']).stem} weights")
def fetch_weights(weights: str, store: Path, mirror: str | None, seed: int) -> Reference:
    """Pretrained (or seeded random) SqueezeNet 1.1, every tensor checked by name and shape."""
    if weights not in _NAMED:
        check_weights(weights)
        read_weights(Path(weights))
        return Reference.to(Path(weights), "weights")
    folder = downloads_folder(store, weights)
    if weights == "random":
        path = folder / f"random-{seed}.npz"
        save_parameters(path, random_parameters(seed))
        return Reference.to(path, "random weights")
    instead = "Name a file with --weights FILE, or a folder or URL that has one of them with --mirror."
    path = obtain(WEIGHTS[weights], folder, mirror, instead)
    read_weights(path)
    return Reference.to(path, f"{weights} weights")
