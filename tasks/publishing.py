"""Publish a model version, and tell Prefect what it was made from."""

import re
from pathlib import Path
from typing import Any, Self

from prefect.assets import Asset, AssetProperties
from prefect.context import AssetContext

from cnn.data.catalog import DATASETS
from cnn.data.datasets import Dataset
from cnn.publication.champions import NoChampionError, champion, standing_champion
from cnn.publication.gate import Promotion, require_same_source
from cnn.publication.manifest import Lineage, Manifest
from cnn.publication.new_data import require_no_drift
from cnn.publication.publishing import publish as publish_version
from cnn.publication.versions import can_answer, is_intact, verified
from cnn.support.backend import Devices
from cnn.support.digests import content_digest
from cnn.support.references import Reference
from cnn.support.remote import address_of
from cnn.training.hyperparameters import Recipe
from tasks.steps import durations, step


class ModelVersion(Reference):
    """A published version; it counts as gone when its model has no champion any more that can answer."""

    def is_intact(self) -> bool:
        """Whether it has the same files as when it was published, and its model a champion that can answer."""
        try:
            best = champion(self.path.parent)
        except NoChampionError:
            return False
        if best is None or not can_answer(best):
            return False
        return is_intact(self.path) and content_digest(self.path) == self.checksum

    def shared(self) -> Self:
        """The same: it was published, which is more."""
        return self

    def fetch(self) -> None:
        """Have all of its files here."""
        verified(self.path)


def check_source(dataset: Reference, data: str, folder: Path, promote: Promotion) -> None:
    """Refuse, before any training, other data than that of the champion in ``folder``, unless it is to be replaced.

    Raises:
        UserError: asks for another name.
    """
    require_same_source(Dataset.open(dataset.path), source_of(data), standing_champion(folder), promote)


def check_drift(dataset: Reference, folder: Path, max_drift: float | None) -> None:
    """Refuse, before any training, new images too many of which are unlike all that the champion in ``folder`` knows.

    Raises:
        UserError: names one of them.
    """
    if max_drift is not None and (best := standing_champion(folder)):
        require_no_drift(Dataset.open(dataset.path), best, max_drift)


def source_of(data: str) -> str:
    """What tells a source from others of the same name: a path, or the name that catalogued datasets share.

    >>> source_of("hotdog-records"), source_of("/photos/my-pets")
    ('hotdog', '/photos/my-pets')
    """
    return data.partition("-")[0] if data in DATASETS else data


def trace(
    data: str,
    source: Reference,
    dataset: Reference,
    recipe: Recipe[Any],
    *,
    weights: Reference | None = None,
    seed: int,
    devices: Devices,
) -> Lineage:
    """Where a model comes from, for its manifest and its card; ``data`` identifies its source."""
    return Lineage.of(
        Dataset.open(dataset.path),
        recipe,
        source=source.path.name,
        place=source_of(data),
        weights=weights,
        seed=seed,
        devices=devices,
        notes=source.notes,
        licence=source.licence,
    )


@step("publish {name}", unread=("made_from",))
def publish(
    *,
    name: str,
    checkpoint: Reference,
    report: Reference,
    dataset: Reference,
    lineage: Lineage,
    made_from: dict[str, Reference],
    models: Path,
    promote: Promotion,
    margin: float,
    int8: bool,
) -> ModelVersion:
    """Write the next version of the model, make it the champion if the rule permits it."""
    version = publish_version(
        name=name,
        checkpoint=checkpoint.path,
        report=report.path,
        dataset=Dataset.open(dataset.path),
        lineage=lineage,
        models=models,
        promote=promote,
        margin=margin,
        int8=int8,
        durations=durations(),
    )
    _declare_asset(version, made_from)
    return ModelVersion.to(version)


def _asset_key(path: Path) -> str:
    """A path, or its address, as a key that Prefect takes for an asset.

    >>> _asset_key(Path("/photos/my pets.zip"))
    'file:///photos/my_pets.zip'
    """
    scheme, _, place = (address_of(path) or f"file://{path.absolute()}").partition("://")
    return f"{scheme}://" + re.sub(r"[^\w./~-]", "_", place)


def _declare_asset(version: Path, made_from: dict[str, Reference]) -> None:
    """Tell Prefect that the present task run makes the model, and from which data and weights."""
    context = AssetContext.get()
    assert context
    manifest = Manifest.open(version)
    model = AssetProperties(name=manifest.name, url=version.as_uri(), description=manifest.reason)
    # Prefect's @materialize wants names when a task is defined; these are known when it runs
    context.downstream_assets.add(Asset(key=_asset_key(version.parent), properties=model))
    for reference in made_from.values():
        properties = AssetProperties(name=reference.path.name)
        context.direct_asset_dependencies.add(Asset(key=_asset_key(reference.path), properties=properties))
