"""Contents: which images a version was made from, and what it answered when it was published."""

import logging
from pathlib import Path

import pyarrow.parquet as pq

from cnn.data.datasets import Dataset
from cnn.evaluation.predictions import Predictions
from cnn.evaluation.report import predictions_file, read_predictions
from cnn.publication.manifest import Manifest
from cnn.publication.records import IMAGES_FILE
from cnn.publication.versions import altered_files
from cnn.support.remote import has

logger = logging.getLogger(__name__)


def unaltered_predictions(version: Path, split: str) -> Predictions | None:
    """The predictions on a split that a version was published with; None if there are none or they were altered."""
    manifest, name = Manifest.open(version), predictions_file(version, split).name
    if name not in manifest.files or name in altered_files(version, manifest.files):
        return None
    return read_predictions(version, split, manifest.classes)


def image_ids(version: Path, splits: tuple[str, ...]) -> set[str]:
    """Ids of the images that these splits had when a version was made; none, and a warning, if its list was altered."""
    file = version / IMAGES_FILE
    if not has(file, Manifest.open(version).files.get(IMAGES_FILE, "")):
        logger.warning("%s: missing or altered, so it is not known which images %s was made from", file, version.name)
        return set()
    return set(pq.read_table(file, filters=[("split", "in", splits)])["id"].to_pylist())


def new_images(dataset: Dataset, version: Path) -> int:
    """How many images of ``dataset`` a published version was not made from."""
    known = image_ids(version, dataset.splits)
    return sum(id_ not in known for split in dataset.splits for id_ in dataset.ids_and_labels(split)[0])
