"""The comparison of several architectures trained on the same dataset: which is best, and what each costs."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from cnn.data.datasets import Dataset
from cnn.evaluation.figures import save_figure
from cnn.evaluation.plots import comparison_curves, confusion_plot, image_grid
from cnn.evaluation.predictions import Predictions
from cnn.evaluation.report import Captioned, Report, captioned, history_table, read_predictions
from cnn.support.files import atomic_folder
from cnn.training.checkpoints import Epoch, load_checkpoint

COMPARISON_FILE = "comparison.json"
_MISTAKES, _MISTAKES_PER_ROW = 16, 8
_BYTES_PER_PARAMETER = 4  # float32


class ComparisonRow(BaseModel):
    """Figures of one architecture: shares 0…1, ``low`` to ``high`` the 95 % interval of its accuracy, 10⁶ bytes,
    seconds with evaluation, training images per second; not a number: the timings were lost."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    architecture: str
    validation_accuracy: float
    accuracy: float
    low: float
    high: float
    parameters: int
    megabytes: float
    seconds_per_epoch: float
    images_per_second: float
    outside_network: float

    def columns(self, split: str) -> dict[str, str]:
        """The figures for people, by the title of their column; ``split`` is that of ``accuracy``."""
        return {
            "architecture": self.architecture,
            "validation accuracy": _percent(self.validation_accuracy),
            f"{split} accuracy": _percent(self.accuracy),  # the same column if there is no test split
            "95 % interval": f"{100 * self.low:.1f}–{_percent(self.high)}",
            "parameters": f"{self.parameters:,}",
            "MB": f"{self.megabytes:,.1f}",
            "seconds per epoch": f"{self.seconds_per_epoch:,.1f}",
            "images per second": f"{self.images_per_second:,.0f}",
            "outside the network": _percent(self.outside_network),
        }


class Comparison(BaseModel):
    """What ``comparison.json`` holds: the best architecture, the split that accuracies are of, caveats, the rows."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    best: str
    split: str
    caveats: tuple[str, ...]
    rows: tuple[ComparisonRow, ...]

    @classmethod
    def open(cls, folder: Path) -> "Comparison":
        """The comparison in a folder.

        Raises:
            OSError: there is none.
        """
        return cls.model_validate_json((folder / COMPARISON_FILE).read_text(encoding="utf-8"))

    @classmethod
    def find(cls, folder: Path) -> "Comparison | None":
        """The comparison in a folder, None if it holds none."""
        return cls.open(folder) if (folder / COMPARISON_FILE).exists() else None

    def table(self) -> list[dict[str, str]]:
        """Rows for people."""
        return [row.columns(self.split) for row in self.rows]


def _percent(share: float) -> str:
    """A share 0…1 for people.

    >>> _percent(0.7012)
    '70.1 %'
    """
    return f"{100 * share:.1f} %"


@dataclass(frozen=True)
class _Entry:
    """One architecture: its report, its predictions on the split that counts, its epochs with their timings."""

    report: Report
    predictions: Predictions
    history: list[Epoch]

    @classmethod
    def read(cls, checkpoint: Path, report: Path, dataset: Dataset, split: str) -> "_Entry":
        trained = load_checkpoint(checkpoint)
        history = [{**epoch, **timing} for epoch, timing in zip(trained.history, trained.timings, strict=True)]
        return cls(Report.open(report), read_predictions(report, split, dataset.classes), history)

    def row(self, name: str, split: str, images: int) -> ComparisonRow:
        """Its figures; ``images`` are those of an epoch."""
        trained = [epoch for epoch in self.history if epoch["epoch"] >= 1]
        timings = ("seconds", "training_seconds", "outside_network")
        seconds, training, outside = (float(np.mean([epoch[name] for epoch in trained])) for name in timings)
        low, high = self.report.metrics[split].intervals["accuracy"]
        return ComparisonRow(
            architecture=name,
            validation_accuracy=self.report.metrics["validation"].accuracy,
            accuracy=self.report.metrics[split].accuracy,
            low=low,
            high=high,
            parameters=self.report.parameters,
            megabytes=self.report.parameters * _BYTES_PER_PARAMETER / 1e6,
            seconds_per_epoch=seconds,
            images_per_second=images / training,
            outside_network=outside,
        )


def compare(checkpoints: Mapping[str, Path], reports: Mapping[str, Path], dataset: Dataset, folder: Path) -> Comparison:
    """Fill ``folder`` with the best architecture's report and, beside it, with the figures of all.

    The best has the highest validation accuracy, the first of equals; accuracies are of test, or of validation if the
    data has no test split. Writes ``comparison.json`` (`Comparison`), ``comparison.png``, and for each architecture
    ``NAME-confusion.png``, ``NAME-mistakes.png`` (its most confident wrong predictions) and ``NAME-history.parquet``
    (an epoch a row, with its timing).

    Args:
        checkpoints: name of each architecture (one or more) → the folder of its checkpoint.
        reports: name → the folder of its report on ``dataset``.
    """
    split = dataset.splits[-1]
    entries = {name: _Entry.read(checkpoints[name], reports[name], dataset, split) for name in reports}
    images = sum(dataset.counts["train"].values())
    comparison = Comparison(
        best=max(entries, key=lambda name: entries[name].report.metrics["validation"].accuracy),
        split=split,
        caveats=dataset.caveats,
        rows=tuple(entry.row(name, split, images) for name, entry in entries.items()),
    )
    with atomic_folder(folder) as temporary:
        for file in reports[comparison.best].iterdir():  # copytree would not say that the disk is full
            shutil.copyfile(file, temporary / file.name)
        (temporary / COMPARISON_FILE).write_text(comparison.model_dump_json(indent=2), encoding="utf-8")
        for name, entry in entries.items():
            pq.write_table(history_table(entry.history), temporary / f"{name}-history.parquet")
        _save_figures(entries, dataset, split, temporary)
    return comparison


def _save_figures(entries: dict[str, _Entry], dataset: Dataset, split: str, folder: Path) -> None:
    predictions = {name: entry.predictions for name, entry in entries.items()}
    wrong = {name: (found, found.most_confident(correct=False, count=_MISTAKES)) for name, found in predictions.items()}
    mistakes = captioned(wrong, dataset, split, lambda image: image)
    figures = {"comparison": comparison_curves({name: entry.history for name, entry in entries.items()})}
    for name, found in predictions.items():
        title = f"{name} on {split}"
        figures[f"{name}-confusion"] = confusion_plot({title: found.confusion}, dataset.classes)
        figures[f"{name}-mistakes"] = image_grid(_in_rows(f"{title}: most confident mistakes", mistakes[name]))
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png", dataset.caveats)


def _in_rows(title: str, items: Captioned) -> dict[str, Captioned]:
    """The items as rows for `image_grid`, numbered in the titles."""
    parts = {first: items[first : first + _MISTAKES_PER_ROW] for first in range(0, len(items), _MISTAKES_PER_ROW)}
    rows = {f"{title}, {first + 1}–{first + len(part)}": part for first, part in parts.items()}
    return rows or {"no mistakes": []}  # short, because a row without images is narrow
