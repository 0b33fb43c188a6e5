"""Prepare what training reads: a dataset, and of it features, records or pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Self

from cnn.data.datasets import Dataset
from cnn.data.images import Preprocessing
from cnn.data.preparation import Span, read_shard, shards
from cnn.data.preparation import prepare as prepare_dataset
from cnn.data.sources import Source, open_source
from cnn.evaluation.calibration import require_threshold
from cnn.networks.architectures import NetworkConfig
from cnn.support.backend import Devices
from cnn.support.files import locked, text_digest
from cnn.support.references import Reference, SharedPath
from cnn.support.remote import fetch
from cnn.support.store import remove_keyed
from cnn.training.checkpoints import pretrained
from cnn.training.features import Embedder, FeatureStore, Rows, embed_shards, learning_splits, missing
from cnn.training.features import embed as embed_images
from cnn.training.hyperparameters import FromScratch, HeadStage, Stage
from cnn.training.metrics import positive_class
from cnn.training.pixels import pack_pixels as pack_dataset_pixels
from cnn.training.records import pack_records as pack_dataset_records
from tasks.caching import own_folder
from tasks.runners import run_shards
from tasks.steps import step


class Prepared(Reference):
    """A prepared dataset, which is read from where it is."""

    def fetch(self) -> None:
        """Have nothing here that differs from what was shared."""
        fetch(self.path, lazily=True)


class Features(Reference):
    """Features of some splits of a dataset, in a folder that holds those of other datasets, too: it has no checksum."""

    dataset: SharedPath
    splits: tuple[str, ...]

    def is_intact(self) -> bool:
        """Whether every image of those splits has its features there."""
        try:
            dataset, found = Dataset.open(self.dataset), FeatureStore(self.path)
            return all(id_ in found for split in self.splits for id_ in dataset.ids_and_labels(split)[0])
        except Exception:  # whatever a damaged file causes
            return False

    def shared(self) -> Self:
        """The same: each file is shared when it is written."""
        return self

    def fetch(self) -> None:
        """Nothing: what is needed of them is fetched when it is read."""


@step("prepare {source.path.stem}")
def prepare(source: Reference, *, labels: Reference | None, test_as_validation: bool, store: Path) -> Prepared:
    """One Parquet file per split, beside a report of what was left out and why."""
    folder = own_folder(store, "datasets")
    images, table = _opened(source), labels.path if labels else None
    with _parts(images, source, labels, store) as parts:
        dataset = prepare_dataset(images, folder, labels=table, test_as_validation=test_as_validation, parts=parts)
    return Prepared.to(folder, dataset.digest(), notes=source.notes)


@contextmanager
def _parts(images: Source, source: Reference, labels: Reference | None, store: Path) -> Iterator[list[Path]]:
    """The folders of a source's shards, which are deleted after use; none if it is a single shard."""
    if len(spans := shards(images)) == 1:
        yield []
        return
    common = {"source": source, "labels": labels, "count": len(spans), "store": store}
    each = [{"start": span.start, "stop": span.stop, "number": n} | common for n, span in enumerate(spans, start=1)]
    with locked(store / "parts"):  # another run may need the same ones
        made = run_shards(prepare_shard, each, "preparing")
        for part in made:
            part.fetch()  # another machine may have made it
        yield [part.path for part in made]
        for part in made:
            remove_keyed(part.path)  # all together as large as the dataset


@lru_cache(maxsize=1)
def _opened(source: Reference) -> Source:
    """A source, whose files are listed once in a process, and not for each shard."""
    return open_source(source.path)


@step("prepare shard {number} of {count}", unkeyed=("number", "count"))
def prepare_shard(
    source: Reference,
    labels: Reference | None,
    *,
    start: int,
    stop: int | None,
    number: int,
    count: int,
    store: Path,
) -> Reference:
    """Consecutive images of a source, decoded, as a folder."""
    folder = own_folder(store, "parts")
    read_shard(_opened(source), Span(start, stop), folder, labels=labels.path if labels else None)
    return Reference.to(folder)


def check_decision(dataset: Reference, positive: str | None, threshold: str) -> None:
    """Refuse a positive class that the data does not have, or a threshold that needs one, before any training."""
    classes = Dataset.open(dataset.path).classes
    require_threshold(threshold, len(classes), positive_class(classes, positive))


def make_inputs(
    stage: Stage,
    dataset: Reference,
    weights: Reference,
    network: NetworkConfig,
    *,
    devices: Devices,
    store: Path,
) -> Reference:
    """What a stage is trained on: cached features, or records."""
    if isinstance(stage, HeadStage):
        return embed(dataset, weights, network, stage.keep_validation, devices, store)
    return pack_records(dataset, store)


@step("embed")
def embed(
    dataset: Reference,
    weights: Reference,
    network: NetworkConfig,
    keep_validation: bool,
    devices: Devices,
    store: Path,
) -> Features:
    """The frozen network's mean features of the images that a head learns from; only new images are embedded."""
    folder = own_folder(store, "features", "weights", "network", "devices")
    prepared, start = Dataset.open(dataset.path), pretrained(weights.path, network)
    splits = learning_splits(prepared, keep_validation)
    lacking = missing(prepared, folder, splits)
    if len(lacking) > 1:
        common = {"dataset": dataset, "weights": weights, "network": network, "devices": devices, "folder": folder}
        each = [{"rows": rows, "number": n, "count": len(lacking)} | common for n, rows in enumerate(lacking, start=1)]
        run_shards(embed_shard, each, "embedding")
        _embedder.cache_clear()  # the training needs the memory
    else:
        embed_images(prepared, start, folder, splits=splits, devices=devices)
    digest = text_digest(dataset.digest, *splits, folder.name)
    return Features(path=folder, digest=digest, checksum="", dataset=dataset.path, splits=splits)


@step("embed shard {number} of {count}", unkeyed=("number", "count"))
def embed_shard(
    dataset: Reference,
    weights: Reference,
    network: NetworkConfig,
    *,
    rows: Rows,
    devices: Devices,
    folder: Path,
    number: int,
    count: int,
) -> Reference:
    """The features of some images, added to ``folder``."""
    (file,) = embed_shards(Dataset.open(dataset.path), [rows], _embedder(weights, network, devices), folder)
    return Reference.to(file)


@lru_cache(maxsize=1)
def _embedder(weights: Reference, network: NetworkConfig, devices: Devices) -> Embedder:
    """The network, made once in each process."""
    return Embedder(pretrained(weights.path, network), devices)


@step("pack records")
def pack_records(dataset: Reference, store: Path) -> Reference:
    """Training and validation images as MXNet records, for stages that augment images anew each epoch."""
    folder = own_folder(store, "records")
    pack_dataset_records(Dataset.open(dataset.path), folder)
    return Reference.to(folder)


@step("pack pixels of {preprocessing.crop} px")
def pack_pixels(dataset: Reference, preprocessing: Preprocessing, store: Path) -> Reference:
    """Training and validation images as plain arrays of small images."""
    folder = own_folder(store, "pixels")
    pack_dataset_pixels(Dataset.open(dataset.path), preprocessing, folder)
    return Reference.to(folder)


def pack_pixels_of_each(stages: dict[str, FromScratch], dataset: Reference, store: Path) -> dict[str, Reference]:
    """The pixels for each architecture, packed once for all with the same preprocessing."""
    unique = {each.preprocessing: None for each in stages.values()}
    packed = {preprocessing: pack_pixels(dataset, preprocessing, store) for preprocessing in unique}
    return {name: packed[each.preprocessing] for name, each in stages.items()}
