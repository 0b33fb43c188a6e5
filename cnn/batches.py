"""What a training learns from, batch by batch: cached features, augmented photos, or small pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnn.augmentation import add_noise, mirror, shift
from cnn.backend import mx, physical_cores
from cnn.datasets import Dataset
from cnn.features import FeatureStore
from cnn.hyperparameters import FromScratch, Stage
from cnn.parallel import ordered_map
from cnn.pictures import CROP, MEAN, STD, scale

#: Inputs as an MXNet array on the CPU, and labels (n,).
Batch = tuple[Any, NDArray[np.int64]]

_EXAMPLES = 512  # enough to know what patches of pictures look like


class Batches(Protocol):
    """A source of batches; the same epoch number gives the same batches."""

    steps_per_epoch: int

    def training(self, epoch: int) -> Iterator[Batch]:
        """Batches of equal size in random order."""

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Every picture of a split once, not augmented."""


class FeatureBatches:
    """Batches of cached features, (n, 512, 7, 7): each view of each training picture once an epoch."""

    def __init__(self, dataset: Dataset, folder: Path, stage: Stage, seed: int) -> None:
        self._stores = {
            "train": FeatureStore(folder / "train", stage.views),
            "validation": FeatureStore(folder / "validation", 1),
        }
        self._pictures = {split: dataset.ids_and_labels(split) for split in self._stores}
        self._stage, self._seed = stage, seed
        examples = len(self._pictures["train"][0]) * stage.views
        self._batch_size = min(stage.batch_size, examples)
        self.steps_per_epoch = examples // self._batch_size

    def _load(self, split: str, picks: NDArray[np.int64]) -> Batch:
        """Features and labels of (picture, view) pairs, (n, 2) numbers."""
        ids, labels = self._pictures[split]
        features = np.stack([self._stores[split].read(ids[picture], view) for picture, view in picks])
        return mx.nd.array(features), labels[picks[:, 0]]

    def training(self, epoch: int) -> Iterator[Batch]:
        """Every view of every training picture once, but for a rest that fills no batch."""
        ids, views = self._pictures["train"][0], self._stage.views
        pairs = np.stack(np.divmod(np.arange(len(ids) * views), views), axis=1)
        pairs = np.random.default_rng([self._seed, epoch]).permutation(pairs)
        whole = pairs[: self.steps_per_epoch * self._batch_size]  # the rest would be a batch of another shape
        picks = np.split(whole, self.steps_per_epoch)
        return ordered_map(lambda batch: self._load("train", batch), picks, ahead=8)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """The central view of every picture of a split once."""
        for numbers in _in_order(len(self._pictures[split][0]), self._stage.batch_size):
            yield self._load(split, np.stack([numbers, np.zeros_like(numbers)], axis=1))


class RecordBatches:
    """Batches of pictures, (n, 3, 224, 224), normalised, that ``ImageRecordIter`` decodes and augments."""

    def __init__(self, dataset: Dataset, folder: Path, stage: Stage, seed: int) -> None:
        self._folder, self._stage, self._seed = folder, stage, seed
        self._pictures = {split: sum(dataset.counts[split].values()) for split in ("train", "validation")}
        # the last batch is filled up from the beginning, as ImageRecordIter does by default
        self.steps_per_epoch = -(-self._pictures["train"] // stage.batch_size)

    def _iterate(self, split: str, **options: Any) -> Iterator[tuple[Batch, int]]:
        """Batches, and how many pictures at the end only fill up each."""
        iterator = mx.io.ImageRecordIter(
            path_imgrec=str(self._folder / f"{split}.rec"),
            data_shape=(3, CROP, CROP),
            batch_size=min(self._stage.batch_size, self._pictures[split]),  # it refuses fewer pictures than that
            preprocess_threads=physical_cores(),
            verbose=False,
            **options,
        )
        for batch in iterator:
            yield (normalise(batch.data[0]), batch.label[0].asnumpy().astype(np.int64)), batch.pad

    def training(self, epoch: int) -> Iterator[Batch]:
        """Every training picture once, augmented anew; the last batch is filled up from the beginning."""
        augmentation = self._stage.augmentation.model_dump(exclude_none=True)
        seed = int(np.random.default_rng([self._seed, epoch]).integers(2**31))
        index = str(self._folder / "train.idx")
        batches = self._iterate("train", path_imgidx=index, shuffle=True, seed=seed, seed_aug=seed, **augmentation)
        return (batch for batch, _ in batches)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """The middle of every picture of a split once."""
        smallest = self._stage.augmentation.min_img_size
        for (pictures, labels), fill in self._iterate(split, min_img_size=smallest):
            count = len(labels) - fill
            yield pictures[:count], labels[:count]


class PixelBatches:
    """Batches of small pictures, (n, 3, side, side), each epoch augmented anew, from `cnn.packing.pack_pixels`."""

    def __init__(self, dataset: Dataset, folder: Path, settings: FromScratch, seed: int) -> None:
        splits = ("train", "validation")
        self._pixels = {split: np.load(folder / f"{split}.npy", mmap_mode="r") for split in splits}
        self._labels = {split: dataset.ids_and_labels(split)[1] for split in splits}
        self._settings, self._seed = settings, seed
        pictures = len(self._labels["train"])
        self._batch_size = min(settings.batch_size, pictures)
        self.steps_per_epoch = pictures // self._batch_size  # the notebook's last_batch="discard"

    def _batch(self, split: str, numbers: NDArray[np.int64], chance: np.random.Generator | None = None) -> Batch:
        """The pictures with these numbers in a split; augmented if there is a ``chance``."""
        settings, pixels = self._settings, self._pixels[split][numbers]
        if chance and settings.shift:
            pixels = shift(pixels, settings.shift, chance)
        if chance and settings.mirror:
            pixels = mirror(pixels, chance)
        values = scale(pixels, settings.input)
        if split == "train" and settings.noise:
            values = add_noise(values, settings.noise, self._seed, numbers)
        return mx.nd.array(values), self._labels[split][numbers]

    def examples(self) -> NDArray[np.float32]:
        """Training pictures as inputs, (at most 512, 3, side, side), evenly chosen and not augmented."""
        count = len(self._labels["train"])
        return self._batch("train", np.arange(0, count, -(-count // _EXAMPLES)))[0].asnumpy()

    def training(self, epoch: int) -> Iterator[Batch]:
        """Every training picture once, but for a rest that fills no batch; made on other threads, ahead of use."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._labels["train"]))
        picks = np.split(order[: self.steps_per_epoch * self._batch_size], self.steps_per_epoch)

        def load(numbers: NDArray[np.int64]) -> Batch:
            return self._batch("train", numbers, np.random.default_rng([self._seed, epoch, int(numbers[0])]))

        return ordered_map(load, picks, ahead=4)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Every picture of a split once (the notebook leaves out a last rest); training pictures with their noise."""
        numbers = _in_order(len(self._labels[split]), self._settings.batch_size)
        return ordered_map(lambda batch: self._batch(split, batch), numbers, ahead=4)


def _in_order(count: int, size: int) -> list[NDArray[np.int64]]:
    """0…count-1 in groups of ``size``; the last may be smaller."""
    return np.split(np.arange(count), range(size, count, size))


def normalise(pixels: Any) -> Any:
    """The notebook's ``color_normalize(batch / 255)``: (n, 3, h, w), values 0…255, to ImageNet's scale."""
    mean, std = (mx.nd.array(values).reshape((1, 3, 1, 1)) for values in (MEAN, STD))
    return mx.image.color_normalize(pixels / 255, mean, std)
