"""Comparisons of made-up reports, against figures computed here."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import write_images
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import binomtest

from cnn.data.datasets import Dataset
from cnn.data.preparation import prepare
from cnn.evaluation import comparison
from cnn.evaluation.comparison import Comparison, ComparisonRow, compare
from cnn.evaluation.predictions import Predictions, save_predictions
from cnn.evaluation.report import Report, predictions_file
from cnn.networks.architectures import PRETRAINED
from cnn.training.checkpoints import Checkpoint, save_checkpoint

HISTORY = tuple(
    {"stage": 1, "epoch": epoch, "validation_accuracy": 0.5 + epoch / 10} | loss
    for epoch, loss in enumerate(({}, {"train_loss": 0.9}, {"train_loss": 0.5}, {"train_loss": 0.3}))
)
TIMINGS = (
    {"seconds": 0.0},
    {"seconds": 1.5, "training_seconds": 0.75, "outside_network": 0.3},
    {"seconds": 0.5, "training_seconds": 0.25, "outside_network": 0.1},
    {"seconds": 1.0, "training_seconds": 0.5, "outside_network": 0.2},
)
Shown = dict[str, list[tuple[Image.Image, str]]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four training, eight validation and twenty test images."""
    folder = tmp_path_factory.mktemp("comparison")
    for split, first, count in (("train", 0, 2), ("validation", 100, 4), ("test", 200, 10)):
        write_images(folder / "source" / split, count, first)
    return prepare(folder / "source", folder / "dataset")


@dataclass
class Trainings:
    """Trainings and reports with so many correct predictions, made up in a folder."""

    dataset: Dataset
    folder: Path

    def add(self, name: str, **hits: int) -> None:
        """The first ``hits`` predictions of each split are correct and the others wrong."""
        found = {split: self.predict(name, split, count) for split, count in hits.items()}
        report = Report(
            checkpoint=name,
            parameters=21_340_000,
            positive=None,
            metrics={split: predictions.metrics(None) for split, predictions in found.items()},
            confusion={split: predictions.confusion.tolist() for split, predictions in found.items()},
            caveats=(),
        )
        folder = self.folder / "reports" / name
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(report.model_dump_json())
        (folder / "other.txt").write_text(name)
        for split, predictions in found.items():
            save_predictions(predictions_file(folder, split), predictions, self.dataset.classes)
        trained = Checkpoint(PRETRAINED, self.dataset.classes, {"a": np.zeros(1)}, HISTORY, TIMINGS)
        save_checkpoint(self.folder / "checkpoints" / name, trained)

    def predict(self, name: str, split: str, hits: int) -> Predictions:
        """Predictions whose confidence is random and differs between names."""
        ids, labels = self.dataset.ids_and_labels(split)
        predicted = np.where(np.arange(len(labels)) < hits, labels, 1 - labels)
        sure = np.random.default_rng(len(name)).uniform(0.51, 0.99, len(labels)).astype(np.float32)
        shares = np.where(np.eye(2, dtype=bool)[predicted], sure[:, None], 1 - sure[:, None])
        return Predictions(ids, self.dataset.names(split), labels, shares)

    def compare(self) -> Comparison:
        reports = {path.name: path for path in sorted((self.folder / "reports").iterdir())}
        checkpoints = {name: self.folder / "checkpoints" / name for name in reports}
        return compare(checkpoints, reports, self.dataset, self.folder / "comparison")


@pytest.fixture
def trainings(dataset: Dataset, tmp_path: Path) -> Trainings:
    return Trainings(dataset, tmp_path)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Shown]:
    """What the grids of mistakes would show."""
    found: list[Shown] = []

    def image_grid(rows: Shown) -> Figure:
        found.append(rows)
        return Figure()

    monkeypatch.setattr(comparison, "image_grid", image_grid)
    return found


def test_best_on_validation_is_chosen(trainings: Trainings, shown: list[Shown], tmp_path: Path) -> None:
    trainings.add("c-best-on-test", validation=6, test=20)
    trainings.add("a-first-of-equals", validation=7, test=5)
    trainings.add("b-equal", validation=7, test=15)
    found, folder = trainings.compare(), tmp_path / "comparison"
    assert found.best == "a-first-of-equals" and Comparison.open(folder) == Comparison.find(folder) == found
    names = ("a-first-of-equals", "b-equal", "c-best-on-test")
    made = {f"{name}-{what}" for name in names for what in ("confusion.png", "mistakes.png", "history.parquet")}
    best = tmp_path / "reports" / "a-first-of-equals"
    assert {path.name for path in folder.iterdir()} == {
        *made, "comparison.json", "comparison.png", *(path.name for path in best.iterdir())
    }  # fmt: skip
    for path in best.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    for path in folder.glob("*.png"):
        Image.open(path).verify()
    for name in names:
        rows = pq.read_table(folder / f"{name}-history.parquet").to_pylist()
        assert [row["train_loss"] for row in rows] == [None, 0.9, 0.5, 0.3]
        assert [row["seconds"] for row in rows] == [0, 1.5, 0.5, 1]


def test_rows_are_computed_from_reports_and_timings(trainings: Trainings, shown: list[Shown]) -> None:
    trainings.add("alexnet", validation=6, test=13)
    found = trainings.compare()
    interval = binomtest(13, 20).proportion_ci(method="wilson")
    expected = ComparisonRow(
        architecture="alexnet",
        validation_accuracy=6 / 8,
        accuracy=13 / 20,
        low=interval.low,
        high=interval.high,
        parameters=21_340_000,
        megabytes=85.36,
        seconds_per_epoch=1.0,
        images_per_second=8.0,  # four in half a second of training
        outside_network=0.2,
    )
    assert found.split == "test"
    (row,) = found.rows
    assert row.model_dump() == pytest.approx(expected.model_dump())
    assert found.table() == [
        {
            "architecture": "alexnet",
            "validation accuracy": "75.0 %",
            "test accuracy": "65.0 %",
            "95 % interval": f"{100 * interval.low:.1f}–{100 * interval.high:.1f} %",
            "parameters": "21,340,000",
            "MB": "85.4",
            "seconds per epoch": "1.0",
            "images per second": "8",
            "outside the network": "20.0 %",
        }
    ]


def test_without_test_split_figures_are_of_validation(dataset: Dataset, tmp_path: Path, shown: list[Shown]) -> None:
    counts = {split: dataset.counts[split] for split in ("train", "validation")}
    trainings = Trainings(dataset.model_copy(update={"counts": counts}), tmp_path)
    trainings.add("vgg", validation=8)
    found = trainings.compare()
    assert found.split == "validation"
    (row,) = found.table()
    assert row["validation accuracy"] == "100.0 %" and "test accuracy" not in row


def test_mistakes_are_the_most_confident(trainings: Trainings, shown: list[Shown]) -> None:
    trainings.add("vgg", validation=6, test=2)  # 18 mistakes, of which 16 are shown
    trainings.add("without-mistakes", validation=6, test=20)
    trainings.compare()
    dataset, shares = trainings.dataset, trainings.predict("vgg", "test", 2).probabilities
    images = list(dataset.rows("test"))
    expected = sorted(range(2, 20), key=lambda number: -shares[number].max())[:16]
    captions = []
    for number in expected:
        label = images[number].label
        wrong, right = dataset.classes[1 - label], dataset.classes[label]
        captions.append(f"{wrong} {100 * shares[number, 1 - label]:.0f}%\nis {right}")
    mistakes, none = shown
    first, second = mistakes.values()
    assert list(mistakes) == [f"vgg on test: most confident mistakes, {part}" for part in ("1–8", "9–16")]
    assert [caption for _, caption in [*first, *second]] == captions
    for (image, _), number in zip([*first, *second], expected, strict=True):
        path = trainings.folder / "image"
        path.write_bytes(images[number].data)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(path).convert("RGB")))
    assert none == {"no mistakes": []}


def test_timings_that_were_lost_are_not_a_number(tmp_path: Path) -> None:
    figures = dict.fromkeys(("validation_accuracy", "accuracy", "low", "high", "megabytes"), 0.5)
    lost = dict.fromkeys(("seconds_per_epoch", "images_per_second", "outside_network"), float("nan"))
    row = ComparisonRow(architecture="vgg", parameters=1, **figures, **lost)
    found = Comparison(best="vgg", split="test", caveats=(), rows=(row,))
    (tmp_path / "comparison.json").write_text(found.model_dump_json())
    (again,) = Comparison.open(tmp_path).table()
    assert again["seconds per epoch"] == "nan" and again["95 % interval"] == "50.0–50.0 %"
