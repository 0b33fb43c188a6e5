"""What training stages learn from, batch by batch: cached features, or augmented pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnn.backend import mx, physical_cores
from cnn.datasets import Dataset
from cnn.features import FeatureStore
from cnn.parallel import ordered_map
from cnn.pictures import CROP, MEAN, STD
from cnn.recipes import Stage

#: Inputs as an MXNet array on the CPU, and labels (n,).
Batch = tuple[Any, NDArray[np.int64]]


class Batches(Protocol):
    """A source of batches; the same epoch number gives the same batches."""

    steps_per_epoch: int

    def training(self, epoch: int) -> Iterator[Batch]:
        """Batches of equal size in random order."""

    def validation(self) -> Iterator[Batch]:
        """Every validation picture once."""


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

    def validation(self) -> Iterator[Batch]:
        count, size = len(self._pictures["validation"][0]), self._stage.batch_size
        for start in range(0, count, size):
            numbers = np.arange(start, min(start + size, count))
            yield self._load("validation", np.stack([numbers, np.zeros_like(numbers)], axis=1))


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

    def validation(self) -> Iterator[Batch]:
        smallest = self._stage.augmentation.min_img_size
        for (pictures, labels), fill in self._iterate("validation", min_img_size=smallest):
            count = len(labels) - fill
            yield pictures[:count], labels[:count]


def normalise(pixels: Any) -> Any:
    """The notebook's ``color_normalize(batch / 255)``: (n, 3, h, w), values 0…255, to ImageNet's scale."""
    mean, std = (mx.nd.array(values).reshape((1, 3, 1, 1)) for values in (MEAN, STD))
    return mx.image.color_normalize(pixels / 255, mean, std)
