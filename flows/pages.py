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
from tasks.steps import artifact_key

#: Width of the UI's column of text, in px.
_SHOWN_WIDTH = 1000


def show_outcome(state: str, message: str, version: Path, dataset: Dataset) -> None:
    """Show what came of a run, and the history of the model.

    Args:
        state: name of the run's last state.
        version: the version that the run is about; its figures and card are shown if the run has published it.
    """
    name, manifest = version.parent.name, Manifest.open(version)
    counts = [{"split": split} | {label: f"{count:,}" for label, count in counts.items()}
              for split, counts in dataset.counts.items()]  # fmt: skip
    parts = [message, f"Version: `{version}`"]
    if state in ("New champion", "Not promoted"):
        card = (version / MODEL_CARD_FILE).read_text(encoding="utf-8")
        parts += [*(_figure(path) for path in sorted(version.glob("*.png"))), f"#{card}"]
    else:
        parts += [*manifest.lineage.notes, markdown_table(metrics_rows(manifest.metrics))]
    parts += ["## Images this run looked at", markdown_table(counts), dataset.split_origin]
    _show(name, f"{name}: {state}", parts)
    create_table_artifact(history_rows(version.parent), artifact_key(name, "history"), f"All versions of {name}.")


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
