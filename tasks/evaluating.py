"""What trained networks come to, each and side by side.

Apart from `tasks.training`: when a figure is drawn otherwise, no network is trained again.
"""

from pathlib import Path

from cnn.backend import pick_devices
from cnn.checkpoints import load_timings
from cnn.comparison import compare as compare_reports
from cnn.files import Reference, text_digest
from cnn.hyperparameters import Design
from cnn.metrics import positive_class
from cnn.reports import write_report
from tasks.steps import identity, open_dataset, step


@step("evaluate {design.architecture}")
def evaluate(
    checkpoint: Reference, design: Design, dataset: Reference, positive: str | None, device: str, store: Path
) -> Reference:
    """Metrics, predictions and pictures on validation and test, as a folder."""
    pictures = open_dataset(dataset)
    folder = store / "reports" / text_digest(checkpoint.digest, design, dataset.digest, positive)[:16]
    index = positive_class(pictures.classes, positive)
    write_report(checkpoint.path, design, pictures, index, pick_devices(device), folder)
    return Reference.to(folder, "report")


@step("compare architectures")
def compare(
    checkpoints: dict[str, Reference], reports: dict[str, Reference], dataset: Reference, store: Path
) -> Reference:
    """A table, curves, confusion matrices and mistakes of all architectures, with the best one's report."""
    folder = store / "comparisons" / text_digest(identity(reports), dataset.digest)[:16]
    paths = {name: report.path for name, report in reports.items()}
    timings = {name: load_timings(checkpoint.path) for name, checkpoint in checkpoints.items()}
    compare_reports(paths, timings, open_dataset(dataset), folder)
    return Reference.to(folder, "report")
