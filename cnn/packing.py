"""Datasets as MXNet records, for training stages that see each picture augmented anew every epoch."""

import io
from pathlib import Path

from cnn.datasets import Dataset, Row
from cnn.files import atomic_folder
from cnn.parallel import ordered_map
from cnn.pictures import decode, resize_short
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
