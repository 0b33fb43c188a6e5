"""The page of an audit: its findings with the images, in one HTML file."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cnn.data.datasets import Dataset
from cnn.evaluation.audit import BLURRED, BRIGHT, DARK, PLAIN, TINY
from cnn.evaluation.findings import UNLIKE, Findings
from cnn.evaluation.pages import Card, render, thumbnails

#: The page shows so many images of each kind of finding; the tables hold all.
SHOWN, _SHOWN_OF_GROUP = 48, 4

_SUSPECTS = (
    "A model that has not seen the image is as sure of another class as it usually is of that class. Below each: its "
    "label, split, the probability of the label, and the suggestion. Some labels are wrong; others are right, and the "
    "image is hard. Look at each."
)
_COPIES = (
    "Images that are the same, or nearly. A copy in another split makes figures look better than they are; a copy in "
    "another class means that one label is wrong, or that both classes are in the image."
)
#: Reason in the table → title, meaning, and what its value is.
_REASONS = {
    UNLIKE: ("Unlike their class", "Far from the most similar images of the class: of something else?", "z-score"),
    "one colour": (
        "Of one colour",
        f"The deviation of the grey values, 0…255, is below {PLAIN:g}.",
        "deviation",
    ),
    "dark": ("Dark", f"The mean grey value, 0…255, is below {DARK:g}.", "mean"),
    "bright": ("Bright", f"The mean grey value, 0…255, is above {BRIGHT:g}.", "mean"),
    "blurred": (
        "Blurred",
        f"The variance of the Laplacian is below {BLURRED:g} and low for the contrast.",
        "sharpness",
    ),
    "tiny": ("Tiny", f"The shorter side has fewer than {TINY} px.", "px"),
}


@dataclass(frozen=True)
class Section:
    """One kind of finding: what it means, how many there are, and groups of a title and of cards to show."""

    anchor: str
    title: str
    meaning: str
    count: int
    groups: list[tuple[str, list[Card]]]
    table: str


def audit_page(findings: Findings, dataset: Dataset, title: str) -> str:
    """The findings as one self-contained HTML page, with thumbnails of the first of each kind."""
    sections = [_suspects(findings), *image_sections(findings.duplicates, findings.outliers)]
    names = {card.name for section in sections for _, cards in section.groups for card in cards}
    counts = ", ".join(f"{sum(of_split.values()):,} for {split}" for split, of_split in dataset.counts.items())
    summary = f"{len(findings.labels):,} images ({counts}) of the classes {', '.join(dataset.classes)}."
    notes = (*findings.notes, *(f"{each.name} is left out: {each.reason}." for each in dataset.left_out[:SHOWN]))
    images = thumbnails(dataset, names)
    return render("audit.html", title=title, summary=summary, notes=notes, sections=sections, images=images)


def image_sections(duplicates: pa.Table, outliers: pa.Table, shown: int = SHOWN) -> list[Section]:
    """Sections about copies, outliers and flawed images, from the tables of `Findings`; ``shown`` images of each."""
    return [_copies(duplicates, shown), *_outliers(outliers, shown)]


def groups_across(duplicates: pa.Table, column: str) -> int:
    """How many groups of near duplicates have several splits (``split``) or classes (``label``) in them.

    >>> groups_across(pa.table({"group": [1, 1, 2, 2], "label": ["cat", "dog", "cat", "cat"]}), "label")
    1
    """
    groups = duplicates.group_by("group").aggregate([(column, "count_distinct", pc.CountOptions(mode="all"))])
    return sum(count > 1 for count in groups[f"{column}_count_distinct"].to_pylist())


def _suspects(findings: Findings) -> Section:
    cards = [
        Card(row["file"], f"{_described(row)}, {row['probability_of_label']:.1%}", f"{row['suggestion']}?")
        for row in findings.suspects.to_pylist()
    ]
    return Section("labels", "Suspected wrong labels", _SUSPECTS, len(cards), [("", cards[:SHOWN])], "labels.csv")


def _copies(duplicates: pa.Table, most: int) -> Section:
    groups = [list(rows) for _, rows in groupby(duplicates.to_pylist(), lambda row: row["group"])]
    groups.sort(key=lambda rows: [-len({row[what] for row in rows}) for what in ("label", "split")])
    shown = [
        (_group_title(rows), [Card(row["file"], _described(row)) for row in rows[:_SHOWN_OF_GROUP]])
        for rows in groups[: most // 2]
    ]
    return Section("duplicates", "Groups of near duplicates", _COPIES, len(groups), shown, "duplicates.csv")


def _group_title(rows: list[dict[str, Any]]) -> str:
    """The number of a group, and in which classes and splits its images are, if in several.

    >>> _group_title([{"group": 1, "label": "cat", "split": "train"}, {"group": 1, "label": "dog", "split": "train"}])
    'Group 1, in classes cat and dog'
    """
    found = {"classes": {row["label"] for row in rows}, "splits": {row["split"] or "left out" for row in rows}}
    several = [f", in {what} {' and '.join(sorted(each))}" for what, each in found.items() if len(each) > 1]
    return "".join([f"Group {rows[0]['group']}", *several])


def _outliers(outliers: pa.Table, most: int) -> Iterable[Section]:
    rows = outliers.to_pylist()
    for reason, (title, meaning, unit) in _REASONS.items():
        cards = [Card(r["file"], f"{_described(r)}, {unit} {r['value']:.3g}") for r in rows if r["reason"] == reason]
        if cards:
            shown = [("", cards[:most])]
            yield Section(reason.replace(" ", "-"), title, meaning, len(cards), shown, "outliers.csv")


def _described(row: dict[str, Any]) -> str:
    return f"{row['label']}, {row['split'] or 'left out'}"
