"""Score images by a published version, a shard at a time, and join the scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnn.networks.sessions import Provider
from cnn.serving.predictor import Predictor
from cnn.serving.scoring import join_scores, save_scores
from cnn.serving.scoring import score as score_images
from cnn.serving.shards import Shard
from cnn.support.progress import track
from cnn.support.references import Reference
from tasks.caching import own_folder
from tasks.publishing import ModelVersion
from tasks.runners import run_shards
from tasks.steps import step


def choose_version(models: Path, name: str | None, provider: Provider, int8: bool) -> Reference:
    """The champion as it is now, by which all shards will be scored.

    Raises:
        UserError: there is none, it was altered since it was published, or it cannot answer as asked.
    """
    return ModelVersion.to(Predictor.champion(models, name, provider, int8).version)


def score(shards: Sequence[Shard], version: Reference, **settings: Any) -> dict[str, Reference]:
    """The scores of each shard, by its number."""
    each = [{"shard": shard, "number": number} for number, shard in enumerate(shards, start=1)]
    common = {"version": version, "count": len(shards)} | settings
    parts = run_shards(score_shard, [common | inputs for inputs in each], "scoring")
    return {str(number): part for number, part in enumerate(parts, start=1)}


@step("score shard {number} of {count}", unkeyed=("number", "count"))
def score_shard(
    shard: Shard, version: Reference, *, provider: Provider, int8: bool, number: int, count: int, store: Path
) -> Reference:
    """The scores of a shard's images."""
    path = own_folder(store, "scores") / "scores.parquet"
    predictor = Predictor(version.path, provider, int8)
    scores = score_images(predictor, shard.images())
    save_scores(path, track(scores, f"shard {number} of {count}", len(shard.names), "image"), predictor)
    return Reference.to(path)


@step("join scores")
def join(parts: dict[str, Reference], *, output: Path) -> Reference:
    """The scores of all shards as one file."""
    join_scores((part.path for part in parts.values()), output)
    return Reference.to(output)
