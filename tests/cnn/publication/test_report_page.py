"""The page of a version: self-contained, and what it shows is what the predictions and the champion say."""

import re
from collections import Counter
from pathlib import Path

import pytest
from candidates import Made, equal, hotdog, models, other, photos  # noqa: F401  (fixtures)

from cnn.data.datasets import Dataset
from cnn.evaluation.report import read_predictions
from cnn.publication.manifest import Manifest
from cnn.publication.records import REPORT_PAGE

CELL = re.compile(r'href="#(cell-\d+-\d+)">([\d,]+)<')


@pytest.fixture
def pages(hotdog: Made, other: Made, models: Path) -> list[str]:
    """The pages of two versions, of networks that answer otherwise."""
    return [(made.publish(models) / REPORT_PAGE).read_text(encoding="utf-8") for made in (hotdog, other)]


def test_nothing_is_loaded_from_elsewhere(pages: list[str]) -> None:
    for page in pages:
        for address in re.findall(r'(?:src|href)="([^"]*)"', page):
            assert address.startswith(("data:image/", "#"))
        assert "http" not in re.sub(r"data:image/[^\"]*", "", page)


def test_decision_comes_first(pages: list[str], models: Path) -> None:
    for page, name in zip(pages, ("v0001", "v0002"), strict=True):
        manifest = Manifest.open(models / "food" / name)
        heading = f"food {name} {'is' if manifest.promoted else 'is not'} the champion"
        assert f"<h1>{heading}</h1>\n<p><strong>{manifest.reason}</strong></p>" in page


def test_cells_lead_to_their_images(pages: list[str], models: Path, drawn_dataset: Dataset) -> None:
    version = models / "food" / "v0001"
    manifest = Manifest.open(version)
    split = list(manifest.metrics)[-1]
    predictions = read_predictions(version, split, manifest.classes)
    expected = Counter(zip(predictions.labels.tolist(), predictions.predicted.tolist(), strict=True))
    assert {place: int(count) for place, count in CELL.findall(pages[0])} == {
        f"cell-{label}-{predicted}": count for (label, predicted), count in expected.items()
    }
    for place in {place for place, _ in CELL.findall(pages[0])}:
        assert pages[0].count(f'<h3 id="{place}">') == 1


def test_changes_are_told(pages: list[str]) -> None:
    assert "There was no champion before." in pages[0]
    assert re.search("Images since v0001: 0 new, 0 gone\\.", pages[1])
