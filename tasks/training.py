"""Train a stage and evaluate what came out."""

from pathlib import Path

from cnn.backend import pick_devices
from cnn.batches import Batches, FeatureBatches, RecordBatches
from cnn.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from cnn.datasets import Dataset
from cnn.files import Reference, text_digest
from cnn.learner import Classes
from cnn.metrics import positive_class
from cnn.recipes import Stage
from cnn.reports import write_report
from cnn.training import train_stage
from cnn.weights import read_weights
from tasks.steps import code_digest, step


@step("train {stage.trains}")
def train(
    stage: Stage,
    inputs: Reference,
    dataset: Reference,
    start: Reference,
    positive: str | None,
    seed: int,
    device: str,
    store: Path,
) -> Reference:
    """One stage, from pretrained weights or an earlier stage's checkpoint; goes on from where it was killed."""
    pictures = Dataset.open(dataset.path)
    classes = Classes(
        pictures.classes, positive_class(pictures.classes, positive), tuple(pictures.counts["train"].values())
    )
    batches: Batches = (FeatureBatches if stage.views else RecordBatches)(pictures, inputs.path, stage, seed)
    begin = load_checkpoint(start.path) if start.kind == "checkpoint" else Checkpoint(read_weights(start.path))
    inputs_digest = text_digest(stage, inputs.digest, dataset.digest, start.digest, positive, seed, device)
    folder = store / "training" / text_digest(inputs_digest, code_digest("cnn.training"))[:16]
    best = train_stage(stage, classes, batches, begin, pick_devices(device), seed, folder / "state.npz")
    save_checkpoint(folder / "checkpoint.npz", best)
    return Reference.to(folder / "checkpoint.npz", "checkpoint")


@step("evaluate")
def evaluate(checkpoint: Reference, dataset: Reference, positive: str | None, device: str, store: Path) -> Reference:
    """Metrics, predictions and pictures on validation and test, as a folder."""
    pictures = Dataset.open(dataset.path)
    folder = store / "reports" / text_digest(checkpoint.digest, dataset.digest, positive)[:16]
    index = positive_class(pictures.classes, positive)
    write_report(checkpoint.path, pictures, index, pick_devices(device), folder)
    return Reference.to(folder, "report")
