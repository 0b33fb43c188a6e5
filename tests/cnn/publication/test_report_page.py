"""The page of a version: self-contained, and what it shows is what the predictions and the champion say."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from candidates import Made, equal, explained, hotdog, models, other, photos  # noqa: F401  (fixtures)

from cnn.data.datasets import Dataset
from cnn.evaluation.report import read_predictions
from cnn.publication.manifest import Manifest
from cnn.publication.records import REPORT_PAGE
from cnn.publication.report_page import report_page
from cnn.publication.versions import load_version

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


@pytest.fixture
def opposite(explained: Path, tmp_path: Path) -> Path:
    """A copy of a version that explains itself, with the opposite predictions on test."""
    folder = Path(shutil.copytree(explained / "food" / "v0001", tmp_path / "v0002"))
    table = pq.read_table(folder / "predictions-test.parquet")
    names = {"p(hotdog)": "p(not_hotdog)", "p(not_hotdog)": "p(hotdog)"}
    pq.write_table(
        table.rename_columns([names.get(each, each) for each in table.column_names]),
        folder / "predictions-test.parquet",
    )
    return folder


def page_of(version: Path, dataset: Dataset, best: Path) -> str:
    return report_page(Manifest.open(version), version, dataset, load_version(best), best)


def test_champion_and_version_are_shown_side_by_side(explained: Path, opposite: Path, drawn_dataset: Dataset) -> None:
    best = explained / "food" / "v0001"
    _, _, shown = page_of(opposite, drawn_dataset, best).partition("they differ in 8.")
    pairs = shown.partition('<div class="cards pairs">')[2].partition("<h2>")[0]
    assert pairs.count("<figure>") == 8 and pairs.count("<img") == 2 * 8
    first, second = re.findall('<img src="([^"]*)"', pairs)[:2]
    assert first == second  # the same network looks at the same places
    assert "cards pairs" not in page_of(best, drawn_dataset, best)


def test_findings_of_the_audit_are_shown(explained: Path, opposite: Path, drawn_dataset: Dataset) -> None:
    best = explained / "food" / "v0001"
    assert "Copies, outliers" not in page_of(opposite, drawn_dataset, best)
    copies = [
        {"group": 1, "file": f"{split}/hotdog/{name}.jpg", "split": split, "label": "hotdog"}
        for split, name in (("train", "0000"), ("test", "0200"))
    ]
    dark = {"file": "train/hotdog/0001.jpg", "split": "train", "label": "hotdog", "reason": "dark", "value": 20.0}
    pq.write_table(pa.Table.from_pylist(copies), opposite / "duplicates.parquet")
    pq.write_table(pa.Table.from_pylist([dark]), opposite / "outliers.parquet")
    page = page_of(opposite, drawn_dataset, best)
    assert "Found: groups of near duplicates: 1 (in several splits: 1, in several classes: 0); dark: 1." in page
    assert "Group 1, in splits test and train" in page and "hotdog, train, mean 20" in page
