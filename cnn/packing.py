"""Datasets as training reads them that sees each picture augmented anew every epoch: MXNet records, or pixels."""

import io
import os
from pathlib import Path

import numpy as np

from cnn.datasets import Dataset, Row
from cnn.files import atomic_folder
from cnn.parallel import ordered_map
from cnn.pictures import Input, Pixels, center_view, decode, resize_short
from cnn.progress import track
from cnn.records import write_records


def pack_dataset(dataset: Dataset, folder: Path) -> None:
    """Write ``train.rec`` and ``validation.rec``: pictures whose shorter side is 256 px, as the notebook's are."""

    def encode(row: Row) -> tuple[int, bytes]:
        packed = io.BytesIO()
        resize_short(decode(row.data)).save(packed, "JPEG", quality=95)
        return row.label, packed.getvalue()

    with atomic_folder(folder) as temporary:
        for split in ("train", "validation"):
            total = sum(dataset.counts[split].values())
            pictures = track(ordered_map(encode, dataset.rows(split)), f"packing {split}", total, "picture")
            write_records(temporary / f"{split}.rec", pictures)


def pack_pixels(dataset: Dataset, given: Input, folder: Path) -> None:
    """Write ``train.npy`` and ``validation.npy``: the middles of the pictures, (n, 3, crop, crop), values 0…255."""

    def cut(row: Row) -> Pixels:
        return np.asarray(center_view(decode(row.data), given)).transpose(2, 0, 1)

    with atomic_folder(folder) as temporary:
        for split in ("train", "validation"):
            total = sum(dataset.counts[split].values())
            shape = (total, 3, given.crop, given.crop)
            pixels = np.lib.format.open_memmap(temporary / f"{split}.npy", "w+", np.uint8, shape)
            with (temporary / f"{split}.npy").open("r+b") as file:  # or a full disk would kill the process below
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
            pictures = ordered_map(cut, dataset.rows(split))
            for number, picture in enumerate(track(pictures, f"packing {split}", total, "picture")):
                pixels[number] = picture
            pixels.flush()
