"""Evaluate trained networks, each and side by side."""

from pathlib import Path

from cnn.data.datasets import Dataset
from cnn.evaluation.answers import MOST_PROBABLE
from cnn.evaluation.comparison import compare as compare_reports
from cnn.evaluation.report import evaluate as evaluate_checkpoint
from cnn.support.backend import Devices
from cnn.support.references import Reference
from tasks.caching import own_folder
from tasks.preparing import Features
from tasks.steps import step


@step("evaluate {what}")
def evaluate(
    what: str,
    *,
    checkpoint: Reference,
    dataset: Reference,
    positive: str | None,
    threshold: str = MOST_PROBABLE,
    inputs: Reference | None = None,
    devices: Devices,
    store: Path,
) -> Reference:
    """Metrics, predictions and figures on validation and test, and an audit if ``inputs`` are features, as a folder."""
    folder = own_folder(store, "reports")
    evaluate_checkpoint(
        checkpoint.path,
        Dataset.open(dataset.path),
        folder,
        positive=positive,
        threshold=threshold,
        features=inputs.path if isinstance(inputs, Features) else None,
        devices=devices,
    )
    return Reference.to(folder)


def evaluate_each(
    checkpoints: dict[str, Reference], dataset: Reference, *, devices: Devices, store: Path
) -> dict[str, Reference]:
    """The report of each architecture."""
    return {
        name: evaluate(name, checkpoint=trained, dataset=dataset, positive=None, devices=devices, store=store)
        for name, trained in checkpoints.items()
    }


@step("compare architectures")
def compare(
    *, checkpoints: dict[str, Reference], reports: dict[str, Reference], dataset: Reference, store: Path
) -> Reference:
    """A table, curves, confusion matrices and mistakes of all architectures, with the best one's report."""
    folder = own_folder(store, "comparisons")
    compare_reports(
        {name: checkpoint.path for name, checkpoint in checkpoints.items()},
        {name: report.path for name, report in reports.items()},
        Dataset.open(dataset.path),
        folder,
    )
    return Reference.to(folder)
