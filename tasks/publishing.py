"""Publish a model version, and show it in the Prefect UI."""

import base64
import re
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.assets import Asset, AssetProperties
from prefect.context import AssetContext

from cnn.backend import pick_devices
from cnn.classifier import CHAMPION_FILE
from cnn.comparison import comparison_rows
from cnn.files import Reference
from cnn.hyperparameters import Design, Recipe
from cnn.metrics import positive_class
from cnn.model_card import history_rows, metrics_rows
from cnn.publication import MODEL_CARD_FILE, Candidate, read_manifest
from cnn.publication import publish as publish_version
from tasks.steps import artifact_key, open_dataset, step

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
    """Write the next version of the model, make it the champion if it is not worse than the present one, show it."""
    pictures = open_dataset(dataset)
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
    _declare_asset(version, [source, weights] if weights else [source])
    _show(version)
    return ModelVersion.to(version, "model version")


def _notes(source: Reference, weights: Reference | None) -> list[str]:
    return [note for kind, note in _NOTES.items() if kind in (source.kind, weights and weights.kind)]


def _asset_key(path: Path) -> str:
    """A path as a key that Prefect takes for an asset.

    >>> _asset_key(Path("/photos/my pets.zip"))
    'file:///photos/my_pets.zip'
    """
    return "file://" + re.sub(r"[^\w./~-]", "_", str(path.absolute()))


def _declare_asset(version: Path, made_from: list[Reference]) -> None:
    """Tell Prefect that the present task run makes the model, and from which data and weights."""
    context = AssetContext.get()
    assert context
    manifest = read_manifest(version)
    said = AssetProperties(name=manifest["name"], url=version.as_uri(), description=manifest["why"])
    # Prefect's @materialize wants names when a task is defined; these are known when it runs
    context.downstream_assets.add(Asset(key=_asset_key(version.parent), properties=said))
    for reference in made_from:
        named = AssetProperties(name=reference.path.name)
        context.direct_asset_dependencies.add(Asset(key=_asset_key(reference.path), properties=named))


def _show(version: Path) -> None:
    """Show a version in the Prefect UI: its metrics, epochs, card and pictures, and where it is."""
    manifest, name = read_manifest(version), version.parent.name
    title = f"{name} {manifest['version']}"

    def describe(what: str) -> str:
        return ". ".join([f"{title}: {what}", *manifest["notes"]])

    tables = {
        "metrics": metrics_rows(manifest["metrics"]),
        "epochs": history_rows(version),
        "architectures": comparison_rows(version),
    }
    for what, rows in tables.items():
        if rows:
            create_table_artifact(rows, artifact_key(name, what), describe(what))
    card = (version / MODEL_CARD_FILE).read_text()
    create_markdown_artifact(card, artifact_key(name, "report"), describe("report"))
    create_link_artifact(version.as_uri(), title, artifact_key(name, "version"), describe(str(version)))
    for picture in sorted(version.glob("*.png")):
        data = base64.b64encode(picture.read_bytes()).decode()
        what = picture.stem.replace("-", " ")
        create_image_artifact(f"data:image/png;base64,{data}", artifact_key(name, picture.stem), describe(what))
