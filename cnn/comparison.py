"""Several architectures trained on the same dataset, side by side: which is best, and what each costs."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from cnn.checkpoints import Epoch, Timing
from cnn.datasets import Dataset
from cnn.evaluation import Predictions
from cnn.files import atomic_folder
from cnn.metrics import wilson_interval
from cnn.plots import comparison_curves, confusion_plot, picture_grid, save_figure
from cnn.reports import captioned, history_table, read_predictions

_SUMMARY = "comparison.json"
_MISTAKES, _MISTAKES_PER_ROW = 16, 8
_BYTES_PER_PARAMETER = 4  # float32
_TIMINGS = ("seconds", "training_seconds", "outside_network")


@dataclass(frozen=True)
class _Report:
    """What is read of a report: metrics of each split, and predictions of the last one."""

    parameters: int
    metrics: dict[str, dict[str, float]]
    predictions: Predictions
    history: list[Epoch]  # with timings

    @classmethod
    def read(cls, folder: Path, timings: Sequence[Timing], dataset: Dataset, split: str) -> "_Report":
        """What a report's folder says of one split."""
        summary = json.loads((folder / "metrics.json").read_text())
        epochs = pq.read_table(folder / "history.parquet").to_pylist()
        told = [{name: value for name, value in epoch.items() if value is not None} for epoch in epochs]
        history = [{**epoch, **timing} for epoch, timing in zip(told, timings, strict=True)]
        predictions = read_predictions(folder, split, dataset.classes)
        return cls(summary["parameters"], summary["metrics"], predictions, history)


def compare(
    folders: Mapping[str, Path], timings: Mapping[str, Sequence[Timing]], dataset: Dataset, folder: Path
) -> None:
    """Fill ``folder`` with the best architecture's report and, beside it, with how all of them did.

    The best has the highest validation accuracy, the first of equals; figures are of test, or of validation if the
    data has no test part. Writes ``comparison.json`` (``best``; ``split`` that the figures are of; ``caveats`` of the
    data; ``rows``), ``comparison.png``, and for each architecture ``NAME-confusion.png``, ``NAME-mistakes.png`` (its
    surest wrong answers) and ``NAME-history.parquet`` (an epoch a row, with its timing).

    Args:
        folders: name of each architecture (one or more) → the folder of its report on ``dataset``.
        timings: name → what each row of its history took.
    """
    split = dataset.splits[-1]
    reports = {name: _Report.read(place, timings[name], dataset, split) for name, place in folders.items()}
    best = max(reports, key=lambda name: reports[name].metrics["validation"]["accuracy"])
    train = sum(dataset.counts["train"].values())
    rows = [_row(name, report, split, train) for name, report in reports.items()]
    summary = {"best": best, "split": split, "caveats": dataset.caveats, "rows": rows}
    answers = {name: report.predictions for name, report in reports.items()}
    surest = {name: (found, found.most_confident(False, _MISTAKES)) for name, found in answers.items()}
    mistakes = captioned(surest, dataset, split, lambda picture: picture)
    with atomic_folder(folder) as temporary:
        shutil.copytree(folders[best], temporary, dirs_exist_ok=True)
        (temporary / _SUMMARY).write_text(json.dumps(summary, indent=2))
        figures = {"comparison": comparison_curves({name: report.history for name, report in reports.items()})}
        for name, report in reports.items():
            title = f"{name} on {split}"
            figures[f"{name}-confusion"] = confusion_plot({title: report.predictions.confusion}, dataset.classes)
            figures[f"{name}-mistakes"] = picture_grid(_titled(f"{title}: surest mistakes", mistakes[name]))
            pq.write_table(history_table(report.history), temporary / f"{name}-history.parquet")
        for name, figure in figures.items():
            save_figure(figure, temporary / f"{name}.png", dataset.caveats)


def _row(name: str, report: _Report, split: str, train: int) -> dict[str, Any]:
    """Figures of one architecture: shares 0…1, seconds with evaluation, pictures per second of training, 10⁶ bytes."""
    trained = [epoch for epoch in report.history if epoch["epoch"] >= 1]
    mean = {name: float(np.mean([epoch[name] for epoch in trained])) for name in _TIMINGS}
    confusion = report.predictions.confusion
    low, high = wilson_interval(int(confusion.trace()), int(confusion.sum()))
    return {
        "architecture": name,
        "validation_accuracy": report.metrics["validation"]["accuracy"],
        "accuracy": report.metrics[split]["accuracy"],
        "low": low,
        "high": high,
        "parameters": report.parameters,
        "megabytes": report.parameters * _BYTES_PER_PARAMETER / 1e6,
        "seconds_per_epoch": mean["seconds"],
        "pictures_per_second": train / mean["training_seconds"],
        "outside_network": mean["outside_network"],
    }


def _titled(title: str, items: list[tuple[Image.Image, str]]) -> dict[str, list[tuple[Image.Image, str]]]:
    """The items as rows for `picture_grid`, numbered in the titles."""
    parts = {first: items[first : first + _MISTAKES_PER_ROW] for first in range(0, len(items), _MISTAKES_PER_ROW)}
    rows = {f"{title}, {first + 1}–{first + len(part)}": part for first, part in parts.items()}
    return rows or {"no mistakes": []}  # short, because a row without pictures is narrow


def _read_summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / _SUMMARY).read_text())


def best_of(folder: Path) -> str:
    """Name of the best architecture of the comparison in ``folder``.

    Raises:
        OSError: there is none.
    """
    return _read_summary(folder)["best"]


def _percent(share: float) -> str:
    """A share 0…1 for people.

    >>> _percent(0.7012)
    '70.1 %'
    """
    return f"{100 * share:.1f} %"


def accuracies(folder: Path) -> dict[str, float]:
    """Accuracy of each architecture of the comparison in ``folder``; empty if there is none."""
    if not (folder / _SUMMARY).exists():
        return {}
    return {row["architecture"]: row["accuracy"] for row in _read_summary(folder)["rows"]}


def comparison_rows(folder: Path) -> list[dict[str, str]]:
    """The comparison in ``folder`` as table rows for people, one per architecture, in the order of `compare`.

    Empty if there is no comparison.
    """
    if not (folder / _SUMMARY).exists():
        return []
    summary = _read_summary(folder)
    return [
        {
            "architecture": row["architecture"],
            "validation accuracy": _percent(row["validation_accuracy"]),
            f"{summary['split']} accuracy": _percent(row["accuracy"]),  # the same column if there is no test part
            "95 % interval": f"{100 * row['low']:.1f}–{_percent(row['high'])}",
            "parameters": f"{row['parameters']:,}",
            "MB": f"{row['megabytes']:,.1f}",
            "seconds per epoch": f"{row['seconds_per_epoch']:,.1f}",
            "pictures per second": f"{row['pictures_per_second']:,.0f}",
            "outside the network": _percent(row["outside_network"]),
        }
        for row in summary["rows"]
    ]
