"""Records: training images as MXNet record files, which are decoded and augmented anew each epoch."""

import errno
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnn.data.datasets import Dataset, Row
from cnn.data.decoding import decode
from cnn.data.images import CROP, MEAN, STD, resize_short
from cnn.support.backend import mx
from cnn.support.files import atomic_file, atomic_folder
from cnn.support.parallel import ordered_map, physical_cores
from cnn.support.progress import track
from cnn.training.batches import Batch
from cnn.training.hyperparameters import ImageStage


def write_records(path: Path, images: Iterable[tuple[int, bytes]]) -> None:
    """Write (label, encoded image) pairs as a record file that ``mx.io.ImageRecordIter`` reads.

    Beside it comes an index, ``.idx``, with which it can shuffle all records and not only neighbouring ones.
    """
    with atomic_file(path) as records, atomic_file(path.with_suffix(".idx")) as index:
        writer = mx.recordio.MXIndexedRecordIO(str(index), str(records), "w")
        for number, (label, image) in enumerate(images):
            writer.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, float(label), number, 0), image))
        writer.close()


def pack_records(dataset: Dataset, folder: Path) -> None:
    """Write ``train.rec`` and ``validation.rec``: images whose shorter side is 256 px, as the notebook's are."""

    def encode(row: Row) -> tuple[int, bytes]:
        packed = io.BytesIO()
        resize_short(decode(row.data)).save(packed, "JPEG", quality=95)
        return row.label, packed.getvalue()

    with atomic_folder(folder) as temporary:
        for split in ("train", "validation"):
            total = sum(dataset.counts[split].values())
            images = track(ordered_map(encode, dataset.rows(split)), f"packing {split}", total, "image")
            write_records(temporary / f"{split}.rec", images)


class RecordBatches:
    """Batches of images, (n, 3, 224, 224), normalised, that ``ImageRecordIter`` decodes and augments."""

    def __init__(self, dataset: Dataset, folder: Path, stage: ImageStage, seed: int) -> None:
        self._folder, self._stage, self._seed = folder, stage, seed
        self._images = {split: sum(dataset.counts[split].values()) for split in ("train", "validation")}
        # the last batch is padded from the beginning, as ImageRecordIter does by default
        self.steps_per_epoch = -(-self._images["train"] // stage.batch_size)

    def _iterate(self, split: str, **options: Any) -> Iterator[tuple[Batch, int]]:
        """Batches, and how many images at the end of each are padding."""
        records = self._folder / f"{split}.rec"
        if not records.is_file():  # MXNet's own error is not the system's
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(records))
        iterator = mx.io.ImageRecordIter(
            path_imgrec=str(records),
            data_shape=(3, CROP, CROP),
            batch_size=min(self._stage.batch_size, self._images[split]),  # it refuses fewer images than that
            preprocess_threads=physical_cores(),
            verbose=False,
            **options,
        )
        for batch in iterator:
            yield (color_normalize(batch.data[0]), batch.label[0].asnumpy().astype(np.int64)), batch.pad

    def training(self, epoch: int) -> Iterator[Batch]:
        """Every training image once, augmented anew; the last batch is padded from the beginning."""
        augmentation = self._stage.augmentation.model_dump(exclude_none=True)
        seed = int(np.random.default_rng([self._seed, epoch]).integers(2**31))
        index = str(self._folder / "train.idx")
        batches = self._iterate("train", path_imgidx=index, shuffle=True, seed=seed, seed_aug=seed, **augmentation)
        return (batch for batch, _ in batches)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """The middle of every image of a split once."""
        smallest = self._stage.augmentation.min_img_size
        for (images, labels), padding in self._iterate(split, min_img_size=smallest):
            count = len(labels) - padding
            yield images[:count], labels[:count]


def color_normalize(pixels: Any) -> Any:
    """The notebook's ``color_normalize(batch / 255)``: (n, 3, h, w), values 0…255, to ImageNet's scale."""
    mean, std = (mx.nd.array(values).reshape((1, 3, 1, 1)) for values in (MEAN, STD))
    return mx.image.color_normalize(pixels / 255, mean, std)
