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
from cnn.comparison import comparison_rows
from cnn.datasets import Dataset
from cnn.files import Reference
from cnn.hyperparameters import Design, Recipe
from cnn.metrics import positive_class
from cnn.model_card import metrics_rows
from cnn.publication import CHAMPION_FILE, Candidate, read_manifest
from cnn.publication import publish as publish_version
from tasks.steps import step

#: What a model's card must say first, by the kind of reference that it was made from.
_NOTES = {
    "sample": "Trained on the drawn SAMPLE, not on photos: it shows that the pipeline works, and nothing about photos.",
    "random weights": "Started from seeded RANDOM features, as was asked for.",
    "builtin weights": "Started from the BUILT-IN features, learnt from CIFAR-10: worth less than ImageNet's.",
}


class ModelVersion(Reference):
    """A published version; it counts as gone when its model has no champion any more."""

    def is_intact(self) -> bool:
        return (self.path.parent / CHAMPION_FILE).exists() and super().is_intact()


@step("publish {name}")
def publish(
    name: str,
    design: Design,
    checkpoint: Reference,
    report: Reference,
    source: Reference,
    dataset: Reference,
    weights: Reference | None,
    recipe: Recipe[Any],
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
        "weights": weights and {"source": weights.path.name, "digest": weights.digest},
        "recipe": recipe.model_dump(),
        "notes": [*_notes(source, weights), *pictures.caveats],
        "seed": seed,
        "device": ", ".join(map(str, devices)),
    }
    index = positive_class(pictures.classes, positive)
    chosen_by = recipe.stages[-1].chosen_by
    candidate = Candidate(name, design, checkpoint.path, report.path, pictures, index, chosen_by, origin)
    version = publish_version(candidate, models, devices)
    return ModelVersion(**Reference.to(version, "model version").model_dump())


def _notes(source: Reference, weights: Reference | None) -> list[str]:
    return [note for kind, note in _NOTES.items() if kind in (source.kind, weights and weights.kind)]


def show(version: ModelVersion) -> None:
    """Show a version in the Prefect UI: its metrics, its card, its pictures, and where it is."""
    manifest, name = read_manifest(version.path), version.path.parent.name
    rows = metrics_rows(manifest["metrics"])
    create_table_artifact(key=f"{name}-metrics", table=rows, description=f"{name} {manifest['version']}")
    create_markdown_artifact(key=f"{name}-report", markdown=(version.path / "README.md").read_text())
    create_link_artifact(key=f"{name}-version", link=version.path.as_uri(), link_text=f"{name} {manifest['version']}")
    if compared := comparison_rows(version.path):
        create_table_artifact(key=f"{name}-comparison", table=compared, description="all architectures")
    for picture in sorted(version.path.glob("*.png")):
        data = base64.b64encode(picture.read_bytes()).decode()
        key = f"{name}-{picture.stem}".replace("_", "-")  # keys match [a-z0-9-]
        create_image_artifact(key=key, image_url=f"data:image/png;base64,{data}", description=picture.stem)
