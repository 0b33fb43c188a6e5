"""The page of a version: the decision, its figures, what is behind them, and what changed since the champion."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import center_view
from cnn.evaluation.audit import rank_labels, suspect_labels
from cnn.evaluation.audit_page import groups_across, image_sections
from cnn.evaluation.classifier import Classifier
from cnn.evaluation.findings import class_notes
from cnn.evaluation.pages import Card, embedded, render, thumbnail, thumbnails
from cnn.evaluation.plots import with_evidence
from cnn.evaluation.predictions import Predictions
from cnn.evaluation.report import DUPLICATES_FILE, OUTLIERS_FILE, read_predictions
from cnn.publication.contents import image_ids, unaltered_predictions
from cnn.publication.manifest import Manifest
from cnn.publication.model_card import class_rows, metrics_rows
from cnn.publication.versions import can_answer, load_version

#: At most so many images are shown of each kind, of all cells of the confusion matrix, and of each cell of the right.
_PLOTS = ("decisions", "learning_curve", "regularisation", "curves", "comparison")  # the others are here as tables
_SHOWN, _SHOWN_OF_CELLS, _SHOWN_RIGHT, _SHOWN_OF_FINDINGS = 24, 400, 12, 12


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix, and images behind it: the surest of the wrong, the least sure of the right."""

    title: str
    count: int
    cards: list[Card]


@dataclass(frozen=True)
class Finding:
    """One kind of what an audit found: what it means, how many there are, and the first of them."""

    title: str
    meaning: str
    count: int
    cards: list[Card]


@dataclass(frozen=True)
class Audited:
    """What an audit found beside labels, in a sentence and by kind."""

    sentence: str
    findings: list[Finding]


@dataclass(frozen=True)
class Changes:
    """What changed since the champion: sentences, new images, and images that the two answer otherwise."""

    sentences: list[str]
    new: list[Card]
    answers: list[Card]


def report_page(
    manifest: Manifest, folder: Path, dataset: Dataset, classifier: Classifier, best: Path | None = None
) -> str:
    """One self-contained HTML page.

    Args:
        folder: where the version's predictions and figures are.
        classifier: that of the version.
        best: the champion that it was compared with.
    """
    split, classes = list(manifest.metrics)[-1], manifest.classes
    tested = read_predictions(folder, split, classes)
    cells = _cells(tested, classes)
    mistakes = [_card(tested, number, classes) for number in tested.most_confident(correct=False, count=_SHOWN)]
    suspects = _suspects(read_predictions(folder, next(iter(manifest.metrics)), classes), classes)
    changes = _changes(manifest, tested, dataset, best)
    audited = _audited(folder)
    findings = [finding.cards for finding in audited.findings] if audited else []
    shown = [cells[place].cards for place in cells] + [suspects, changes.new, changes.answers, *findings]
    return render(
        "report.html",
        title=f"{manifest.name} {manifest.version} {'is' if manifest.promoted else 'is not'} the champion",
        manifest=manifest,
        split=split,
        figures=metrics_rows(manifest.metrics),
        of_classes=class_rows(manifest),
        cells=cells,
        mistakes=mistakes,
        suspects=suspects,
        changes=changes,
        compared=_side_by_side(best, classifier, dataset, split, {card.name for card in changes.answers}),
        audited=audited,
        class_notes=class_notes(dataset),
        images=thumbnails(dataset, {card.name for cards in shown for card in cards}),
        explained=_explained(classifier, dataset, split, {card.name for card in mistakes}),
        plots={name: embedded(folder / f"{name}.png") for name in _PLOTS if (folder / f"{name}.png").exists()},
    )


def _card(predictions: Predictions, number: int, classes: tuple[str, ...], mark: str = "") -> Card:
    label, predicted = predictions.labels[number], predictions.predicted[number]
    share = f"{classes[predicted]} {predictions.probabilities[number, predicted]:.1%}"
    line = share if label == predicted else f"{share}, labelled {classes[label]}"
    return Card(predictions.names[number], line, mark)


def _cells(predictions: Predictions, classes: tuple[str, ...]) -> dict[tuple[int, int], Cell]:
    """The cells that are not empty by label and prediction."""
    found, predicted = {}, predictions.predicted
    sure = predictions.probabilities[np.arange(len(predicted)), predicted]
    places = sorted(set(zip(predictions.labels.tolist(), predicted.tolist(), strict=True)))
    for label, answer in places:
        numbers = np.flatnonzero((predictions.labels == label) & (predicted == answer))
        order = numbers[np.argsort(sure[numbers] if label == answer else -sure[numbers], kind="stable")]
        most = max(1, _SHOWN_OF_CELLS // len(places))
        cards = [
            _card(predictions, each, classes) for each in order[: min(most, _SHOWN_RIGHT) if label == answer else most]
        ]
        title = f"{classes[label]} predicted as {classes[answer]}"
        found[label, answer] = Cell(title, len(numbers), cards)
    return found


def _suspects(predictions: Predictions, classes: tuple[str, ...]) -> list[Card]:
    """The most suspicious labels among images that were answered by a network that did not learn from them."""
    labels, probabilities = predictions.labels, predictions.probabilities
    if len(np.unique(labels)) < len(classes):
        return []
    suggested, order = suspect_labels(labels, probabilities), rank_labels(labels, probabilities)
    return [
        Card(
            predictions.names[each],
            f"labelled {classes[labels[each]]}, {probabilities[each, labels[each]]:.1%}",
            f"{classes[suggested[each]]}?",
        )
        for each in order[:_SHOWN]
        if suggested[each] != labels[each]
    ]


def _explained(classifier: Classifier, dataset: Dataset, split: str, names: set[str]) -> dict[str, str]:
    """Images by name, with what speaks for the answer and against it, as far as the classifier knows."""
    rows = [row for row in dataset.rows(split) if row.name in names]
    crops = [center_view(decode(row.data), classifier.preprocessing) for row in rows]
    return {
        row.name: thumbnail(crop if answer.evidence is None else with_evidence(crop, answer.evidence))
        for row, crop, answer in zip(rows, crops, classifier.answer(crops), strict=True)
    }


def _side_by_side(
    best: Path | None, classifier: Classifier, dataset: Dataset, split: str, names: set[str]
) -> dict[str, list[str]]:
    """By name, where the champion looked and where the version looks; empty if one of them does not explain itself."""
    if best is None or not names or classifier.novelty is None or not can_answer(best):
        return {}
    before = load_version(best)
    if before.novelty is None:
        return {}
    maps = [_explained(each, dataset, split, names) for each in (before, classifier)]
    return {name: [of_one[name] for of_one in maps] for name in names}


def _audited(folder: Path) -> Audited | None:
    """What the audit found whose tables are in a version's folder, if they are."""
    if not (folder / DUPLICATES_FILE).exists():
        return None
    duplicates, outliers = (pq.read_table(folder / name) for name in (DUPLICATES_FILE, OUTLIERS_FILE))
    sections = [each for each in image_sections(duplicates, outliers, _SHOWN_OF_FINDINGS) if each.count]
    findings = []
    for each in sections:
        cards = [replace(card, mark=title) for title, of_group in each.groups for card in of_group]
        findings.append(Finding(each.title, each.meaning, each.count, cards))
    sentence = ", ".join(f"{each.count:,} {each.title.lower()}" for each in sections) or "nothing"
    if len(duplicates):
        splits, classes = (groups_across(duplicates, column) for column in ("split", "label"))
        sentence += f". Of the groups, {splits:,} in several splits and {classes:,} in several classes"
    return Audited(f"Found: {sentence}.", findings)


def _changes(manifest: Manifest, tested: Predictions, dataset: Dataset, best: Path | None) -> Changes:
    if best is None:
        return Changes(["There was no champion before."], [], [])
    known, now = image_ids(best, ("train", "validation", "test")), dict(_images(dataset))
    new = [Card(now[each], "new") for each in now if each not in known]
    gone = len(known - now.keys())
    sentences = [f"Images since {best.name}: {len(new):,} new, {gone:,} gone."]
    split = list(manifest.metrics)[-1]
    same_classes = Manifest.open(best).classes == manifest.classes
    before = unaltered_predictions(best, split) if same_classes else None
    if before is None:
        return Changes([*sentences, f"The answers of {best.name} cannot be compared."], new[:_SHOWN], [])
    numbers = {image_id: number for number, image_id in enumerate(before.ids)}
    pairs = [(numbers[image_id], number) for number, image_id in enumerate(tested.ids) if image_id in numbers]
    differing = [(old, number) for old, number in pairs if before.predicted[old] != tested.predicted[number]]
    sentences.append(f"Of {len(pairs):,} {split} images that both answered, they differ in {len(differing):,}.")
    answers = [
        _card(tested, number, manifest.classes, f"was {manifest.classes[before.predicted[old]]}")
        for old, number in differing[:_SHOWN]
    ]
    return Changes(sentences, new[:_SHOWN], answers)


def _images(dataset: Dataset) -> Iterable[tuple[str, str]]:
    """Id and name of each image."""
    for split in dataset.splits:
        yield from zip(dataset.ids_and_labels(split)[0], dataset.names(split), strict=True)
