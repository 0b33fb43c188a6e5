"""New data: how the images that a published version was not made from differ from those that it was."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from cnn.data.datasets import Dataset, Row
from cnn.data.decoding import decode
from cnn.data.images import center_view
from cnn.evaluation.classifier import Classifier
from cnn.evaluation.drift import Drift, look, mean_distance
from cnn.publication.contents import image_ids
from cnn.publication.records import IMAGES_FILE
from cnn.publication.versions import load_version
from cnn.support.errors import UserError
from cnn.support.parallel import ordered_map
from cnn.support.progress import track
from cnn.training.novelty import directions

logger = logging.getLogger(__name__)


def find_drift(dataset: Dataset, version: Path) -> Drift | None:
    """How the new images of a dataset differ from those of a version, by the version's own network.

    None if no image is new, or the version does not say what it learnt from, which is logged: an old one, one that was
    trained by epochs, or one whose list of images was altered.
    """
    known = image_ids(version, ("train", "validation", "test"))
    found = [
        (name, dataset.classes[label])
        for split in dataset.splits
        for id_, label, name in zip(*dataset.ids_and_labels(split), dataset.names(split), strict=True)
        if id_ not in known
    ]
    if not (known and found):
        return None
    classifier = load_version(version)
    if classifier.novelty is None:
        logger.warning("%s: it does not say what it learnt from, so new images are not compared with that", version)
        return None
    features, looks = _compared(dataset, known, classifier, len(found))
    images = pq.read_table(version / IMAGES_FILE)
    before, now = Counter(images["label"].to_pylist()), Counter(label for _, label in found)
    distance, p = mean_distance(classifier.novelty.known, directions(features))
    return Drift(
        since=version.name,
        names=tuple(name for name, _ in found),
        novel=classifier.novelty.is_novel(features),
        distance=distance,
        p=p,
        shares={each: (before[each] / before.total(), now[each] / now.total()) for each in sorted({*before, *now})},
        looks={
            name: _compare_means(images[name].to_numpy(), np.array([each[name] for each in looks]))
            for name in looks[0]
            if name in images.column_names
        },
    )


def _compared(
    dataset: Dataset, known: set[str], classifier: Classifier, count: int
) -> tuple[NDArray[np.float32], list[dict[str, float]]]:
    """The features, (n, channels), of the ``count`` images that are not known, and how each looks."""
    looks: list[dict[str, float]] = []

    def examine(row: Row) -> tuple[dict[str, float], Image.Image]:
        return look(row.data), center_view(decode(row.data), classifier.preprocessing)

    def crops() -> Iterator[Image.Image]:
        rows = (row for split in dataset.splits for row in dataset.rows(split) if row.id not in known)
        for looked, crop in track(ordered_map(examine, rows), "comparing new images", count, "image"):
            looks.append(looked)
            yield crop

    return classifier.features(crops()), looks


def _compare_means(before: NDArray[np.float64], now: NDArray[np.float64]) -> tuple[float, float, float]:
    _, p = mean_distance(before[:, None], now[:, None])
    return float(before.mean()), float(now.mean()), p


def require_no_drift(dataset: Dataset, version: Path, limit: float) -> None:
    """Refuse new images of which a larger share than ``limit``, 0…1, is unlike all that a version learnt from.

    Raises:
        UserError: they are; names one of them.
    """
    drift = find_drift(dataset, version)
    if drift and drift.share > limit:
        raise UserError(
            f"max_drift {limit:g}: expected new images like those that {version.parent.name} {version.name} learnt "
            f"from, found {int(drift.novel.sum()):,} of {len(drift.names):,} ({drift.share:.0%}) unlike all of them, "
            f"such as {drift.example}: look at them; to train with them, allow more for one run."
        )
