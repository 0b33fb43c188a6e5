"""From a source to what training reads: a dataset, features, records."""

from pathlib import Path

from cnn import cifar
from cnn.backend import pick_devices
from cnn.features import FeatureStore, embed_split, embedding_network
from cnn.files import Reference, text_digest
from cnn.hyperparameters import FromScratch
from cnn.metrics import positive_class
from cnn.packing import pack_dataset
from cnn.packing import pack_pixels as pack_dataset_pixels
from cnn.pictures import Input
from cnn.preparation import VALIDATION_SHARE_OF_TRAIN
from cnn.preparation import prepare as prepare_dataset
from cnn.weights import read_weights
from tasks.steps import code_digest, open_dataset, step

#: Kinds of sources with so many pictures that a smaller share of the training part suffices for validation.
_VALIDATION_SHARES = {"cifar": cifar.VALIDATION_SHARE}


@step("prepare {source.path.stem}")
def prepare(source: Reference, store: Path, second_part_validates: bool) -> Reference:
    """One Parquet file per split, beside a report of what was left out and why."""
    suffix = "-notebook" if second_part_validates else ""
    folder = store / "datasets" / f"{source.path.stem}-{text_digest(source.path)[:8]}{suffix}"
    share = _VALIDATION_SHARES.get(source.kind, VALIDATION_SHARE_OF_TRAIN)
    prepare_dataset(source.path, folder, second_part_validates, share)
    return Reference.to(folder, "dataset")


def check_positive(dataset: Reference, positive: str | None) -> None:
    """Refuse a class that the data does not have, before it has taken any time."""
    positive_class(open_dataset(dataset).classes, positive)


@step("embed {views} views")
def embed(dataset: Reference, weights: Reference, views: int, seed: int, device: str, store: Path) -> Reference:
    """The frozen features of every training view and of the validation pictures; only new pictures are run."""
    recipe = text_digest(weights.digest, views, seed, code_digest("cnn.features"))
    folder = store / "features" / f"{dataset.path.name}-{recipe[:12]}"
    pictures, devices = open_dataset(dataset), pick_devices(device)
    network = embedding_network(read_weights(weights.path), devices)
    for split, count in (("train", views), ("validation", 1)):
        embed_split(pictures, split, FeatureStore(folder / split, count), network, devices, seed)
    return Reference.to(folder, "features")


@step("pack records")
def pack(dataset: Reference, store: Path) -> Reference:
    """Training and validation pictures as MXNet records, for stages that augment pictures anew each epoch."""
    folder = store / "records" / dataset.path.name
    pack_dataset(open_dataset(dataset), folder)
    return Reference.to(folder, "records")


@step("pack pixels of {given.crop} px")
def pack_pixels(dataset: Reference, given: Input, store: Path) -> Reference:
    """Training and validation pictures as plain arrays of small pictures."""
    folder = store / "pixels" / f"{dataset.path.name}-{text_digest(given)[:8]}"
    pack_dataset_pixels(open_dataset(dataset), given, folder)
    return Reference.to(folder, "pixels")


def pack_pixels_of_each(recipes: dict[str, FromScratch], dataset: Reference, store: Path) -> dict[str, Reference]:
    """The pixels for each architecture, packed once for all that see the same."""
    packed = {given: pack_pixels(dataset, given, store) for given in {each.input: None for each in recipes.values()}}
    return {name: packed[each.input] for name, each in recipes.items()}
