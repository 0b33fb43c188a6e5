"""New data: how the images that a published version was not made from differ from those that it was."""

import logging
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import center_view
from cnn.evaluation.drift import Drift, mean_distance
from cnn.publication.versions import IMAGES_FILE, image_ids, load_version
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
    rows = (row for split in dataset.splits for row in dataset.rows(split) if row.id not in known)
    crops = ordered_map(lambda row: center_view(decode(row.data), classifier.preprocessing), rows)
    features = classifier.features(track(crops, "comparing new images", len(found), "image"))
    before = Counter(pq.read_table(version / IMAGES_FILE)["label"].to_pylist())
    now = Counter(label for _, label in found)
    distance, p = mean_distance(classifier.novelty.known, directions(features))
    return Drift(
        since=version.name,
        names=tuple(name for name, _ in found),
        novel=classifier.novelty.is_novel(features),
        distance=distance,
        p=p,
        shares={each: (before[each] / before.total(), now[each] / now.total()) for each in sorted({*before, *now})},
    )


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
