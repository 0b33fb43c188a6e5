"""Small images, and sources of each format that are written by other libraries than the ones that read them."""

import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from cnn.support.backend import mx

#: Encoded images by their names in a source.
Files = dict[str, bytes]
#: Classes of `labelled_files`.
CLASSES = ("hotdog", "not_hotdog")


def encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8)


def png(seed: int) -> bytes:
    """An image like no other."""
    return encode(Image.fromarray(noise(seed)))


def labelled_files(*splits: str, count: int) -> Files:
    """So many images of each class in each split's folder; the split "" has no folder."""
    names = [f"{split}/{label}/{n}.png" for split in splits for label in CLASSES for n in range(count)]
    return {name.lstrip("/"): png(seed) for seed, name in enumerate(names)}


def write_folder(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_zip(path: Path, files: Files, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_parquet(path: Path, labels: pa.Array, data: list[bytes | None], names: Iterable[str] | None = None) -> Path:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": item, "path": None} for item in data], image)
    table = pa.table({"image": images, "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="none", row_group_size=10)
    return path


def write_records(path: Path, records: Iterable[tuple[int, bytes]]) -> Path:
    """(label, encoded image) pairs, written by MXNet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = mx.recordio.MXRecordIO(str(path), "w")
    for number, (label, data) in enumerate(records):
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, float(label), number, 0), data))
    writer.close()
    return path


def flip(data: bytes, position: int, bits: int = 0xFF) -> bytes:
    """The data with some bits of one byte changed."""
    return data[:position] + bytes([data[position] ^ bits]) + data[position + 1 :]
