"""Pixels: small training images as plain arrays, augmented anew each epoch."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnn.data.datasets import Dataset, Row
from cnn.data.decoding import decode
from cnn.data.images import Pixels, Preprocessing, center_view, scale
from cnn.support.backend import mx
from cnn.support.files import atomic_folder
from cnn.support.parallel import ordered_map
from cnn.support.progress import track
from cnn.training.augmentation import add_noise, mirror, shift
from cnn.training.batches import Batch, in_order
from cnn.training.hyperparameters import FromScratch

_EXAMPLES = 512  # enough to know what patches of images look like


def pack_pixels(dataset: Dataset, preprocessing: Preprocessing, folder: Path) -> None:
    """Write ``train.npy`` and ``validation.npy``: the middles of the images, (n, 3, crop, crop), values 0…255."""

    def cut(row: Row) -> Pixels:
        return np.asarray(center_view(decode(row.data), preprocessing)).transpose(2, 0, 1)

    with atomic_folder(folder) as temporary:
        for split in ("train", "validation"):
            total = sum(dataset.counts[split].values())
            shape = (total, 3, preprocessing.crop, preprocessing.crop)
            pixels = np.lib.format.open_memmap(temporary / f"{split}.npy", "w+", np.uint8, shape)
            with (temporary / f"{split}.npy").open("r+b") as file:  # or a full disk would kill the process below
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
            images = ordered_map(cut, dataset.rows(split))
            for number, image in enumerate(track(images, f"packing {split}", total, "image")):
                pixels[number] = image
            pixels.flush()


class PixelBatches:
    """Batches of small images, (n, 3, side, side), each epoch augmented anew, from what `pack_pixels` wrote."""

    def __init__(self, dataset: Dataset, folder: Path, stage: FromScratch, seed: int) -> None:
        splits = ("train", "validation")
        self._pixels = {split: np.load(folder / f"{split}.npy", mmap_mode="r") for split in splits}
        self._labels = {split: dataset.ids_and_labels(split)[1] for split in splits}
        self._stage, self._seed = stage, seed
        images = len(self._labels["train"])
        self._batch_size = min(stage.batch_size, images)
        self.steps_per_epoch = images // self._batch_size  # the notebook's last_batch="discard"

    def _batch(self, split: str, numbers: NDArray[np.int64], rng: np.random.Generator | None = None) -> Batch:
        """The images with these numbers in a split; augmented if there is an ``rng``."""
        stage, pixels = self._stage, self._pixels[split][numbers]
        if rng and stage.shift:
            pixels = shift(pixels, stage.shift, rng)
        if rng and stage.mirror:
            pixels = mirror(pixels, rng)
        values = scale(pixels, stage.preprocessing)
        if split == "train" and stage.noise:
            values = add_noise(values, stage.noise, self._seed, numbers)
        return mx.nd.array(values), self._labels[split][numbers]

    def examples(self) -> NDArray[np.float32]:
        """Training images as inputs, (at most 512, 3, side, side), evenly chosen and not augmented."""
        count = len(self._labels["train"])
        return self._batch("train", np.arange(0, count, -(-count // _EXAMPLES)))[0].asnumpy()

    def training(self, epoch: int) -> Iterator[Batch]:
        """Every training image once, but for a rest that fills no batch; made on other threads, ahead of use."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._labels["train"]))
        picks = np.split(order[: self.steps_per_epoch * self._batch_size], self.steps_per_epoch)

        def load(numbers: NDArray[np.int64]) -> Batch:
            return self._batch("train", numbers, np.random.default_rng([self._seed, epoch, int(numbers[0])]))

        return ordered_map(load, picks, ahead=4)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Every image of a split once (the notebook leaves out a last rest); training images with their noise."""
        numbers = in_order(len(self._labels[split]), self._stage.batch_size)
        return ordered_map(lambda batch: self._batch(split, batch), numbers, ahead=4)
