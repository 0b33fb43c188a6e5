"""Datasets prepared from files that a test names."""

from pathlib import Path

from writers import Files, write_folder

from cnn.data.datasets import Dataset
from cnn.data.preparation import prepare


def prepared(place: Path, files: Files, **options: float) -> Dataset:
    return prepare(write_folder(place / "photos", files), place / "dataset", **options)  # type: ignore[arg-type]


def names_of(dataset: Dataset) -> dict[str, str]:
    """The split of each image by its name."""
    return {row.name: split for split in dataset.splits for row in dataset.rows(split)}
