"""Prepared datasets: Parquet in the Hugging Face image convention, one file per split, and a report."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cnn.errors import UserError

#: Name of the report in a dataset's folder.
REPORT = "dataset.json"
_ROWS_AT_A_TIME = 16


class LeftOut(BaseModel):
    """A file of the source that is not in the dataset, and why."""

    name: str
    reason: str


class Duplicate(BaseModel):
    """A picture left out because it is, pixel for pixel, one on a side that must stay untouched."""

    name: str
    same_as: str


@dataclass(frozen=True)
class Row:
    """One picture: digest of its content, index of its class, name in the source, encoded bytes."""

    id: str
    label: int
    name: str
    data: bytes


class Dataset(BaseModel):
    """A prepared dataset: where it is and what `cnn.preparation.prepare` found.

    ``classes`` are in the order of the labels; ``counts`` says how many pictures each split that exists has
    of each class; ``split`` says in a sentence how the splits came about; ``caveats`` are what whoever reads
    a figure must know about the data.
    """

    model_config = ConfigDict(frozen=True)

    folder: Path
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    split: str
    left_out: tuple[LeftOut, ...]
    duplicates: tuple[Duplicate, ...]
    caveats: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """The dataset that was prepared in ``folder``.

        Raises:
            UserError: there is none.
        """
        try:
            return cls(folder=folder, **json.loads((folder / REPORT).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{folder}: expected a prepared dataset, found no readable {REPORT}: prepare it again."
            ) from error

    @property
    def splits(self) -> tuple[str, ...]:
        """Which of train, validation and test there are, in this order."""
        return tuple(self.counts)

    def _table(self, split: str) -> pq.ParquetFile:
        return pq.ParquetFile(self.folder / f"{split}.parquet", pre_buffer=False, buffer_size=1 << 20)

    def rows(self, split: str) -> Iterator[Row]:
        """The pictures of a split in their fixed order; only a few are in memory at a time."""
        with self._table(split) as table:
            for batch in table.iter_batches(_ROWS_AT_A_TIME):
                for row in batch.to_pylist():
                    yield Row(row["id"], row["label"], row["image"]["path"], row["image"]["bytes"])

    def ids_and_labels(self, split: str) -> tuple[list[str], NDArray[np.int64]]:
        """Ids and labels of a split in the order of `rows`, without reading the pictures."""
        with self._table(split) as table:
            columns = table.read(columns=["id", "label"])
        return columns["id"].to_pylist(), columns["label"].to_numpy()

    def names(self, split: str) -> list[str]:
        """Names in the source of a split's pictures in the order of `rows`, without reading the pictures."""
        with self._table(split) as table:
            return table.read(columns=["image.path"]).flatten()["image.path"].to_pylist()
