"""Pages of the Prefect UI: the report that every run leaves, and the history of all versions."""

import base64
import io
from pathlib import Path

from PIL import Image
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from cnn.data.datasets import Dataset
from cnn.publication.manifest import Manifest
from cnn.publication.model_card import history_rows, markdown_table, metrics_rows
from cnn.publication.publishing import MODEL_CARD_FILE
from cnn.serving.scoring import Summary
from flows.outcomes import Ending, Outcome
from tasks.steps import artifact_key

#: Width of the UI's column of text, in px.
_SHOWN_WIDTH = 1000


def show_outcome(outcome: Outcome, dataset: Dataset) -> None:
    """Show what came of a run, with figures and card of a version that it published, and the history of the model."""
    version, name = outcome.version, outcome.version.parent.name
    parts = [outcome.message, f"Version: `{version}`"]
    if outcome.ending.published:
        card = (version / MODEL_CARD_FILE).read_text(encoding="utf-8")
        text = card[card.index("\n# ") + 1 :]  # without what only the Hugging Face Hub reads
        parts += [*(_figure(path) for path in sorted(version.glob("*.png"))), f"#{text}"]
    else:
        manifest = Manifest.open(version)
        parts += [*manifest.lineage.notes, markdown_table(metrics_rows(manifest.metrics))]
    parts += ["## Images this run looked at", markdown_table(_counts(dataset)), dataset.split_origin]
    _show(name, f"{name}: {outcome.ending}", parts)
    create_table_artifact(history_rows(version.parent), artifact_key(name, "history"), f"All versions of {name}.")


def show_scores(summary: Summary, path: Path) -> None:
    """Show what came of scoring images: how many of each class, and the first of those that could not be read."""
    rows = [{"predicted": label, "images": f"{count:,}"} for label, count in summary.counts.items()]
    parts = [summary.sentence, f"Scores: `{path}`", markdown_table(rows)]
    if summary.problems:
        reasons = [{"image": name, "problem": reason} for name, reason in summary.problems.items()]
        parts += [f"## Unreadable: {summary.unreadable:,}", markdown_table(reasons)]
    _show("score", f"score: {Ending.SCORED}", parts)


def _counts(dataset: Dataset) -> list[dict[str, str]]:
    """Images of each class as table rows, one per split."""
    return [
        {"split": split} | {label: f"{count:,}" for label, count in of_split.items()}
        for split, of_split in dataset.counts.items()
    ]


def show_failure(error: Exception, name: str) -> None:
    """Show why a run of the model ``name`` failed."""
    _show(name, f"{name}: Failed", [str(error), "Published versions stay as they are."])


def _show(name: str, title: str, parts: list[str]) -> None:
    create_markdown_artifact("\n\n".join([f"# {title}", *parts]), artifact_key(name, "report"), f"{title}.")


def _figure(path: Path) -> str:
    """A figure as an image inside markdown, as JPEG at the size at which it is shown."""
    with Image.open(path) as figure:
        shown = figure.convert("RGB")
    shown.thumbnail((_SHOWN_WIDTH, 4 * _SHOWN_WIDTH))
    encoded = io.BytesIO()
    shown.save(encoded, "JPEG", quality=85)
    return f"![{path.stem}](data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()})"
