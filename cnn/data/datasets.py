"""Prepared datasets: Parquet in the Hugging Face image convention, one file per split, and a report."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import RawIOBase
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cnn.support.errors import UserError
from cnn.support.files import text_digest
from cnn.support.ranges import RangeFile
from cnn.support.remote import open_file, shared_digest

#: Name of the report in a dataset's folder.
REPORT = "dataset.json"
_ROWS_AT_A_TIME = 16
_ROWS_PER_GROUP = 64  # so many images are in memory at a time, both when writing and when reading


class LeftOut(BaseModel):
    """An image, or another file, of the source that is not in the dataset, and why."""

    name: str
    reason: str


class Duplicate(BaseModel):
    """An image left out because the same image, pixel for pixel, is in a split that must stay untouched."""

    name: str
    same_as: str


class Conflict(BaseModel):
    """An image that is the same as one of another class, pixel for pixel (``is_exact``) or nearly.

    One of the labels is wrong, or both classes are in the image.
    """

    name: str
    label: str
    same_as: str
    other_label: str
    is_exact: bool


@dataclass(frozen=True)
class Row:
    """One image: digest of its pixels, index of its class, name in the source, encoded bytes."""

    id: str
    label: int
    name: str
    data: bytes


class Dataset(BaseModel):
    """A prepared dataset: where it is and what `cnn.data.preparation.prepare` found.

    ``classes`` are in the order of the labels; ``counts`` is the number of images of each class in each split that
    exists; ``split_origin`` says in a sentence or two how the splits were made; ``notes`` are sentences about how the
    source was understood; ``caveats`` are those that a reader of any figure must know about the data. ``left_out`` and
    ``duplicates`` are not in the dataset; ``conflicts`` lists images whose labels contradict each other,
    ``one_colour`` those all of whose pixels are the same.
    """

    model_config = ConfigDict(frozen=True)

    folder: Path
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    split_origin: str
    left_out: tuple[LeftOut, ...]
    duplicates: tuple[Duplicate, ...]
    conflicts: tuple[Conflict, ...] = ()
    one_colour: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: str | Path) -> "Dataset":
        """The dataset that was prepared in ``folder``.

        Raises:
            UserError: there is none.
        """
        try:
            with open_file(Path(folder) / REPORT) as file:
                report = json.loads(bytes(file.read()))
            return cls(folder=Path(folder), **report)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{folder}: expected a prepared dataset, found no readable {REPORT}: prepare it again."
            ) from error

    @property
    def splits(self) -> tuple[str, ...]:
        """Which of train, validation and test there are, in this order."""
        return tuple(self.counts)

    def path(self, split: str) -> Path:
        """The Parquet file of a split."""
        return self.folder / f"{split}.parquet"

    def digest(self) -> str:
        """SHA-256 of the content: images, labels, names and classes of each split, but not the report's sentences."""
        return text_digest(*(part for split in self.splits for part in (split, shared_digest(self.path(split)))))

    def rows(self, split: str) -> Iterator[Row]:
        """The images of a split in their fixed order; only a few are in memory at a time."""
        return read_rows(self.path(split))

    def rows_at(self, split: str, numbers: Sequence[int]) -> Iterator[Row]:
        """Some images of a split, by their places in the order of `rows`, counted from 0; they come in that order."""
        wanted = set(numbers)
        with _table(_source(self.path(split))) as table:
            for group in sorted({number // _ROWS_PER_GROUP for number in wanted}):
                rows = (row for batch in table.iter_batches(_ROWS_AT_A_TIME, [group]) for row in _rows_of(batch))
                yield from (row for number, row in enumerate(rows, group * _ROWS_PER_GROUP) if number in wanted)

    def ids_and_labels(self, split: str) -> tuple[list[str], NDArray[np.int64]]:
        """Ids and labels, (n,), of a split in the order of `rows`, without reading the images."""
        columns = _read_columns(self.path(split), ("id", "label"))
        return columns["id"].to_pylist(), columns["label"].to_numpy()

    def some_rows(self, split: str, most: int) -> list[Row]:
        """At most so many images of a split, at even distances."""
        step = -(-sum(self.counts[split].values()) // most)
        return list(islice(self.rows(split), 0, None, max(1, step)))

    def names(self, split: str) -> list[str]:
        """Names in the source of a split's images in the order of `rows`, without reading the images."""
        return _read_columns(self.path(split), ("image.path",)).flatten()["image.path"].to_pylist()


def _table(source: Path | RawIOBase) -> pq.ParquetFile:
    return pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)


def _source(path: Path) -> Path | RawIOBase:
    """What a Parquet file is read from: by range where it has no working copy."""
    return path if path.exists() else open_file(path)


def _read_columns(path: Path, names: Sequence[str]) -> pa.Table:
    """Some columns of all rows; of the others nothing is read."""
    source = _source(path)
    with _table(source) as table:
        if isinstance(source, RangeFile):
            groups = map(table.metadata.row_group, range(table.metadata.num_row_groups))
            columns = (group.column(number) for group in groups for number in range(group.num_columns))
            chunks = [each for each in columns if each.path_in_schema in names]
            source.preload(
                [(each.data_page_offset, each.data_page_offset + each.total_compressed_size) for each in chunks]
            )
        return table.read(columns=names)


def read_rows(path: Path) -> Iterator[Row]:
    """The images that a `SplitWriter` wrote to ``path``, in their order; only a few are in memory at a time."""
    with _table(_source(path)) as table:
        for batch in table.iter_batches(_ROWS_AT_A_TIME):
            yield from _rows_of(batch)


def _rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    return (Row(row["id"], row["label"], row["image"]["path"], row["image"]["bytes"]) for row in batch.to_pylist())


def _schema(classes: tuple[str, ...]) -> pa.Schema:
    """The columns; their meaning in the metadata is what the ``datasets`` library reads (``Features``)."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
        "id": {"dtype": "string", "_type": "Value"},
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64()), ("id", pa.string())])
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


class SplitWriter:
    """The Parquet file of a split, to which rows are added one by one; they are written in groups of 64."""

    def __init__(self, path: Path, classes: tuple[str, ...]) -> None:
        # encoded images neither compress nor repeat
        options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
        self._writer = pq.ParquetWriter(path, _schema(classes), **options)
        self._rows: list[dict[str, object]] = []

    def add(self, row: Row) -> None:
        image = {"bytes": row.data, "path": row.name}
        self._rows.append({"image": image, "label": row.label, "id": row.id})
        if len(self._rows) == _ROWS_PER_GROUP:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed is None:
            self._flush()
            self._writer.close()
        else:  # a full disk, say, which is what should be said
            with suppress(pa.ArrowException, OSError):
                self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._writer.schema))
        self._rows = []
