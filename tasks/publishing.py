"""Publish a model version, and show it in the Prefect UI."""

import base64
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from cnn.backend import pick_devices
from cnn.datasets import Dataset
from cnn.files import Reference
from cnn.metrics import positive_class
from cnn.model_card import metrics_rows
from cnn.publication import CHAMPION_FILE, Candidate, read_manifest
from cnn.publication import publish as publish_version
from cnn.recipes import Recipe
from tasks.steps import step

#: What a model's card must say first, by the kind of reference that it was made from.
_NOTES = {
    "sample": "Trained on the drawn SAMPLE, not on photos: it shows that the pipeline works, and nothing about photos.",
    "random weights": "Started from seeded RANDOM features, because ImageNet's could not be had or were not wanted.",
}


class ModelVersion(Reference):
    """A published version; it counts as gone when its model has no champion any more."""

    def is_intact(self) -> bool:
        return (self.path.parent / CHAMPION_FILE).exists() and super().is_intact()


@step("publish {name}")
def publish(
    name: str,
    checkpoint: Reference,
    report: Reference,
    source: Reference,
    dataset: Reference,
    weights: Reference,
    recipe: Recipe,
    positive: str | None,
    seed: int,
    device: str,
    models: Path,
) -> ModelVersion:
    """Write the next version of the model and make it the champion if it is not worse than the present one."""
    pictures = Dataset.open(dataset.path)
    devices = pick_devices(device)
    origin: dict[str, Any] = {
        "data": {
            "source": source.path.name,
            "digest": dataset.digest,
            "counts": pictures.counts,
            "split": pictures.split,
            "left_out": len(pictures.left_out),
            "duplicates": len(pictures.duplicates),
        },
        "weights": {"source": weights.path.name, "digest": weights.digest},
        "recipe": recipe.model_dump(),
        "notes": [note for kind, note in _NOTES.items() if kind in (source.kind, weights.kind)],
        "seed": seed,
        "device": ", ".join(map(str, devices)),
    }
    index = positive_class(pictures.classes, positive)
    candidate = Candidate(name, checkpoint.path, report.path, pictures, index, origin)
    version = publish_version(candidate, models, devices)
    return ModelVersion(**Reference.to(version, "model version").model_dump())


def show(version: ModelVersion) -> None:
    """Show a version in the Prefect UI: its metrics, its card, its pictures, and where it is."""
    manifest, name = read_manifest(version.path), version.path.parent.name
    rows = metrics_rows(manifest["metrics"])
    create_table_artifact(key=f"{name}-metrics", table=rows, description=f"{name} {manifest['version']}")
    create_markdown_artifact(key=f"{name}-report", markdown=(version.path / "README.md").read_text())
    create_link_artifact(key=f"{name}-version", link=version.path.as_uri(), link_text=f"{name} {manifest['version']}")
    for picture in ("curves", "confusion", "examples"):
        data = base64.b64encode((version.path / f"{picture}.png").read_bytes()).decode()
        create_image_artifact(key=f"{name}-{picture}", image_url=f"data:image/png;base64,{data}", description=picture)
