"""Comparisons of drawn-up reports against figures computed here, and the interval against SciPy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import binomtest  # type: ignore[import-untyped]

from cnn import comparison
from cnn.comparison import best_of, compare, comparison_rows
from cnn.datasets import Dataset
from cnn.metrics import confusion_matrix, scores, wilson_interval
from cnn.plots import comparison_curves, save_figure

HITS = st.integers(1, 20_000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count)))
TIMINGS = (
    {"seconds": 0.0},
    {"seconds": 1.5, "training_seconds": 0.75, "outside_network": 0.3},
    {"seconds": 0.5, "training_seconds": 0.25, "outside_network": 0.1},
    {"seconds": 1.0, "training_seconds": 0.5, "outside_network": 0.2},
)
FILES = {"comparison.json", "comparison.png", "metrics.json", "history.parquet", "other.txt", "deep"}


@given(HITS)
def test_the_interval_is_scipys(hits: tuple[int, int]) -> None:
    expected = binomtest(*hits).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(*hits) == pytest.approx((expected.low, expected.high), abs=1e-6)


@given(HITS, st.integers(2, 50))
def test_the_interval_holds_the_estimate_and_shrinks_with_the_count(hits: tuple[int, int], times: int) -> None:
    low, high = wilson_interval(*hits)
    assert 0 <= low < high <= 1
    assert low - 1e-12 <= hits[0] / hits[1] <= high + 1e-12
    more_low, more_high = wilson_interval(times * hits[0], times * hits[1])
    assert more_high - more_low < high - low
    assert wilson_interval(0, 0) == (0, 1)


def probabilities(dataset: Dataset, split: str, hits: int, seed: int) -> np.ndarray:
    """Answers of which the first ``hits`` are right and the others wrong, as sure as chance decides."""
    _, labels = dataset.ids_and_labels(split)
    answers = np.where(np.arange(len(labels)) < hits, labels, 1 - labels)
    sure = np.random.default_rng(seed).uniform(0.51, 0.99, len(labels)).astype(np.float32)
    return np.where(np.eye(2, dtype=bool)[answers], sure[:, None], 1 - sure[:, None])


def report(folder: Path, dataset: Dataset, name: str, hits: dict[str, int]) -> Path:
    """A report with so many right answers in each split."""
    place = folder / f"report of {name}"
    (place / "deep").mkdir(parents=True)
    (place / "other.txt").write_text(name)
    (place / "deep" / "file.txt").write_text(name)
    summary: dict[str, Any] = {"parameters": 21_340_000, "metrics": {}, "confusion": {}}
    for split, count in hits.items():
        ids, labels = dataset.ids_and_labels(split)
        chances = probabilities(dataset, split, count, seed=len(name))
        confusion = confusion_matrix(labels, chances.argmax(1), 2)
        summary["metrics"][split] = {**scores(confusion, None), "pictures": len(labels)}
        summary["confusion"][split] = confusion.tolist()
        names = np.array(dataset.classes)
        columns = {"id": ids, "picture": ids, "label": names[labels], "answer": names[chances.argmax(1)]}
        columns |= {f"p({label})": chances[:, number] for number, label in enumerate(names)}
        pq.write_table(pa.table(columns), place / f"predictions-{split}.parquet")
    (place / "metrics.json").write_text(json.dumps(summary))
    epochs = [
        {"stage": 1, "epoch": epoch, "train_loss": loss, "validation_accuracy": 0.5 + epoch / 10}
        for epoch, loss in enumerate((None, 0.9, 0.5, 0.3))
    ]
    pq.write_table(pa.Table.from_pylist(epochs), place / "history.parquet")
    return place


def test_the_best_on_validation_is_chosen_and_everything_is_written(drawn_dataset: Dataset, tmp_path: Path) -> None:
    reports = {
        "lenet": report(tmp_path, drawn_dataset, "lenet", {"validation": 6, "test": 8}),  # best on test
        "alexnet": report(tmp_path, drawn_dataset, "alexnet", {"validation": 7, "test": 5}),
        "vgg": report(tmp_path, drawn_dataset, "vgg", {"validation": 7, "test": 7}),  # equal, but later
    }
    folder = tmp_path / "comparison"
    compare(reports, dict.fromkeys(reports, TIMINGS), drawn_dataset, folder)
    assert best_of(folder) == "alexnet"
    promised = {f"{name}-{what}" for name in reports for what in ("confusion.png", "mistakes.png")}
    promised |= {f"{name}-history.parquet" for name in reports}
    predictions = {"predictions-validation.parquet", "predictions-test.parquet"}
    assert {path.name for path in folder.iterdir()} == FILES | predictions | promised
    for path in reports["alexnet"].rglob("*.*"):
        assert (folder / path.relative_to(reports["alexnet"])).read_bytes() == path.read_bytes()
    for name, place in reports.items():
        found = pq.read_table(folder / f"{name}-history.parquet").to_pylist()
        told = pq.read_table(place / "history.parquet").to_pylist()
        assert [each["train_loss"] for each in found] == [each["train_loss"] for each in told]
        assert [each["seconds"] for each in found] == [0, 1.5, 0.5, 1]
    for path in folder.glob("*.png"):
        Image.open(path).verify()


def test_rows_are_what_the_reports_say(drawn_dataset: Dataset, tmp_path: Path) -> None:
    alexnet = report(tmp_path, drawn_dataset, "alexnet", {"validation": 6, "test": 5})
    compare({"alexnet": alexnet}, {"alexnet": TIMINGS}, drawn_dataset, tmp_path / "comparison")
    summary = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    interval = binomtest(5, 8).proportion_ci(method="wilson")
    assert summary["split"] == "test"
    assert summary["rows"] == [
        {
            "architecture": "alexnet",
            "validation_accuracy": 6 / 8,
            "accuracy": 5 / 8,
            "low": pytest.approx(interval.low),
            "high": pytest.approx(interval.high),
            "parameters": 21_340_000,
            "megabytes": pytest.approx(85.36),
            "seconds_per_epoch": pytest.approx(1.0),
            "pictures_per_second": pytest.approx(32.0),  # half of that without the evaluation
            "outside_network": pytest.approx(0.2),
        }
    ]
    assert comparison_rows(tmp_path / "comparison") == [
        {
            "architecture": "alexnet",
            "validation accuracy": "75.0 %",
            "test accuracy": "62.5 %",
            "95 % interval": "30.6–86.3 %",
            "parameters": "21,340,000",
            "MB": "85.4",
            "seconds per epoch": "1.0",
            "pictures per second": "32",
            "outside the network": "20.0 %",
        }
    ]


def test_without_a_test_part_the_figures_are_of_validation(drawn_dataset: Dataset, tmp_path: Path) -> None:
    counts = {split: drawn_dataset.counts[split] for split in ("train", "validation")}
    dataset = drawn_dataset.model_copy(update={"counts": counts})
    compare(
        {"vgg": report(tmp_path, dataset, "vgg", {"validation": 8})}, {"vgg": TIMINGS}, dataset, tmp_path / "comparison"
    )
    (row,) = comparison_rows(tmp_path / "comparison")
    assert row["validation accuracy"] == "100.0 %"
    assert "test accuracy" not in row


def test_mistakes_are_the_surest_wrong_answers(
    drawn_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, list[tuple[Image.Image, str]]]] = []

    def spy(rows: dict[str, list[tuple[Image.Image, str]]]) -> Figure:
        shown.append(rows)
        return Figure()

    monkeypatch.setattr(comparison, "picture_grid", spy)
    monkeypatch.setattr(comparison, "_MISTAKES", 4)
    monkeypatch.setattr(comparison, "_MISTAKES_PER_ROW", 3)
    vgg = report(tmp_path, drawn_dataset, "vgg", {"validation": 6, "test": 2})
    flawless = report(tmp_path, drawn_dataset, "perfect", {"validation": 6, "test": 8})
    timings = {"vgg": TIMINGS, "perfect": TIMINGS}
    compare({"vgg": vgg, "perfect": flawless}, timings, drawn_dataset, tmp_path / "comparison")
    pictures = list(drawn_dataset.rows("test"))
    chances = probabilities(drawn_dataset, "test", 2, seed=len("vgg"))
    surest = sorted(range(2, 8), key=lambda number: -chances[number].max())[:4]
    captions = []
    for number in surest:
        truth = pictures[number].label
        said, name = drawn_dataset.classes[1 - truth], drawn_dataset.classes[truth]
        captions.append(f"{said} {100 * chances[number, 1 - truth]:.0f}%\nis {name}")
    first, second = shown[0].values()
    assert list(shown[0]) == [f"vgg on test: surest mistakes, {part}" for part in ("1–3", "4–4")]
    assert [caption for _, caption in [*first, *second]] == captions
    assert [len(first), len(second)] == [3, 1]
    for (picture, _), number in zip([*first, *second], surest, strict=True):
        assert picture.size == (256, 256)
        path = tmp_path / "picture"
        path.write_bytes(pictures[number].data)
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(Image.open(path).convert("RGB")))
    assert shown[1] == {"no mistakes": []}


def test_curves_run_over_epochs_and_over_cumulative_seconds() -> None:
    history = [
        {"epoch": 0, "seconds": 0.0, "validation_accuracy": 0.1},
        {"epoch": 1, "seconds": 30.0, "validation_accuracy": 0.5, "train_loss": 1.2},
        {"epoch": 2, "seconds": 20.0, "validation_accuracy": 0.6, "train_loss": 0.8},
    ]
    slower = [epoch | {"seconds": 10 * epoch["seconds"]} for epoch in history]
    figure = comparison_curves({"lenet": history, "vgg": slower})
    accuracy, accuracy_by_time, loss, loss_by_time = figure.axes
    for axis, times in ((accuracy_by_time, [[0, 30, 50], [0, 300, 500]]), (accuracy, [[0, 1, 2]] * 2)):
        for line, expected in zip(axis.lines, times, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), expected)
            np.testing.assert_array_equal(line.get_ydata(), [0.1, 0.5, 0.6])
    for axis in (loss, loss_by_time):
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), [np.nan, 1.2, 0.8])
    for axis in figure.axes:
        assert axis.get_xlabel() and axis.get_ylabel()
        assert [line.get_color() for line in axis.lines] == [line.get_color() for line in accuracy.lines]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lenet", "vgg"]


def test_notes_stand_below_a_figure_and_not_in_it(tmp_path: Path) -> None:
    note = "The official test batch is not here, " + "and so on " * 20 + "to the end."
    history = [{"epoch": 0, "seconds": 0.0, "validation_accuracy": 0.1}]
    sizes = {}
    for name, notes in (("plain", []), ("noted", [note])):
        figure = comparison_curves({"lenet": history})
        save_figure(figure, tmp_path / name, notes)
        sizes[name] = Image.open(tmp_path / name, formats=["PNG"]).size
        assert figure.get_supxlabel().replace("\n", " ") == "".join(notes)
    assert sizes["noted"][0] == sizes["plain"][0] and sizes["noted"][1] > sizes["plain"][1]
