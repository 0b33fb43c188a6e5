"""The findings of an audit (`cnn.evaluation.audit`), as tables that a person can edit."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv

from cnn.data.datasets import Dataset, Row
from cnn.data.decoding import decode
from cnn.data.similarity import DifferenceHash, difference_hash
from cnn.evaluation.audit import (
    OUTLIER_Z,
    SMALL_SHARE,
    Appearance,
    duplicate_groups,
    outlier_scores,
    rank_labels,
    small_classes,
    suspect_labels,
)
from cnn.support.parallel import ordered_map
from cnn.support.progress import track

#: The reason in the table of an image that is unlike the others of its class.
UNLIKE = "unlike its class"
_SMALL = f"less than {SMALL_SHARE:.0%} of the largest class: add some"

Facts = dict[str, Any]


@dataclass(frozen=True)
class Findings:
    """What an audit found, as tables of an image a row.

    Attributes:
        labels: all images that were judged, most suspicious first: file, split, label, suggestion (null unless the
            label is a suspect), probability_of_label (0…1), rank (1, 2, …).
        duplicates: near and exact copies: group, file, split (null: left out for its copy), label, cosine (to the most
            similar image; null where there are no features).
        outliers: images unlike the others of their class (value: robust z-score), and flawed ones (value: as in
            `Appearance`): file, split, label, reason, value.
        notes: sentences about classes that are far smaller than the largest.
    """

    labels: pa.Table
    duplicates: pa.Table
    outliers: pa.Table
    notes: tuple[str, ...]

    @property
    def suspects(self) -> pa.Table:
        """The rows of ``labels`` that are suspects."""
        return self.labels.slice(0, len(self.labels) - self.labels["suggestion"].null_count)


def audit(dataset: Dataset, features: NDArray[np.float32], probabilities: NDArray[np.floating]) -> Findings:
    """Find what is wrong with a dataset.

    Args:
        features: (n, channels), of all images in the order of the splits and their rows; nan: not embedded.
        probabilities: (n, classes), of each by a head that was solved without it; nan: not judged.
    """
    rows = [row for split in dataset.splits for row in _facts(dataset, split)]
    labels = np.array([dataset.classes.index(row["label"]) for row in rows])
    looks = list(_looks(dataset, len(rows)))
    judged = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    return Findings(
        labels=_label_table([rows[n] for n in judged], dataset.classes, labels[judged], probabilities[judged]),
        duplicates=_duplicate_table(dataset, rows, features, [each for each, _ in looks]),
        outliers=_outlier_table(rows, outlier_scores(features, labels), [each.flaws() for _, each in looks]),
        notes=class_notes(dataset),
    )


def class_notes(dataset: Dataset) -> tuple[str, ...]:
    """Sentences about classes that are far smaller than the largest."""
    counts = sum((Counter(of_split) for of_split in dataset.counts.values()), Counter[str]())
    return tuple(f"Class {name} has {count:,} images, {_SMALL}." for name, count in small_classes(counts).items())


def _facts(dataset: Dataset, split: str) -> list[Facts]:
    ids, labels = dataset.ids_and_labels(split)
    return [
        {"id": image_id, "file": name, "split": split, "label": dataset.classes[label]}
        for image_id, name, label in zip(ids, dataset.names(split), labels, strict=True)
    ]


def _looks(dataset: Dataset, count: int) -> Iterable[tuple[DifferenceHash, Appearance]]:
    rows = (row for split in dataset.splits for row in dataset.rows(split))
    return track(ordered_map(_look, rows), "looking at images", count, "image")


def _look(row: Row) -> tuple[DifferenceHash, Appearance]:
    grey = decode(row.data).convert("L")
    return difference_hash(grey), Appearance.of(grey)


# ---- tables


def _label_table(
    rows: Sequence[Facts], classes: Sequence[str], labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> pa.Table:
    suggested, order = suspect_labels(labels, probabilities), rank_labels(labels, probabilities)
    return pa.table(
        {
            **_columns(rows, order),
            "suggestion": [None if suggested[n] == labels[n] else classes[suggested[n]] for n in order],
            "probability_of_label": probabilities[order, labels[order]].round(4),
            "rank": np.arange(1, len(order) + 1),
        },
    )


def _duplicate_table(
    dataset: Dataset, rows: Sequence[Facts], features: NDArray[np.float32], hashes: Sequence[DifferenceHash]
) -> pa.Table:
    number = {row["file"]: index for index, row in enumerate(rows)}
    other_label = {pair.name: pair.label for pair in dataset.conflicts if pair.is_exact}
    left_out = [copy for copy in dataset.duplicates if copy.same_as in number]
    same = [number[copy.same_as] for copy in left_out]
    copies = [
        {**rows[index], "file": copy.name, "split": None, "label": other_label.get(copy.name, rows[index]["label"])}
        for copy, index in zip(left_out, same, strict=True)
    ]
    rows, hashes = [*rows, *copies], [*hashes, *(hashes[n] for n in same)]
    features = np.concatenate([features, features[same]]) if same else features
    groups, cosines = duplicate_groups(features, hashes, [row["id"] for row in rows])
    order = [int(n) for n in np.argsort(groups, kind="stable") if groups[n]]
    return pa.table({"group": groups[order], **_columns(rows, order), "cosine": _cosines(cosines[order])})


def _cosines(values: NDArray[np.float32]) -> pa.Array:
    return pa.array(values.astype(float).round(4), from_pandas=True)  # nan becomes null


def _outlier_table(
    rows: Sequence[Facts], scores: NDArray[np.floating], flaws: Sequence[Mapping[str, float]]
) -> pa.Table:
    unlike = [int(n) for n in np.argsort(-scores, kind="stable") if scores[n] >= OUTLIER_Z]
    found = [(n, UNLIKE, float(scores[n])) for n in unlike]
    found += sorted(((n, *flaw) for n, of_image in enumerate(flaws) for flaw in of_image.items()), key=lambda e: e[1:])
    reasons, values = [each[1] for each in found], [round(each[2], 4) for each in found]
    columns = _columns(rows, [each[0] for each in found])
    return pa.table({**columns, "reason": pa.array(reasons, pa.string()), "value": pa.array(values, pa.float64())})


def _columns(rows: Sequence[Facts], order: Iterable[int]) -> dict[str, pa.Array]:
    chosen = [rows[n] for n in order]
    return {name: pa.array([row[name] for row in chosen], pa.string()) for name in ("file", "split", "label")}


def save_tables(findings: Findings, folder: Path) -> None:
    """Write ``labels``, ``duplicates`` and ``outliers`` into ``folder``, each as CSV and as Parquet."""
    for name in ("labels", "duplicates", "outliers"):
        table = getattr(findings, name)
        csv.write_csv(table, folder / f"{name}.csv")
        pq.write_table(table, folder / f"{name}.parquet")
