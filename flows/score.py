"""Any number of images scored by the champion: python flows/score.py --input FOLDER --output scores.parquet."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, Python looks in flows/ only

from cnn.serving.scoring import describe
from cnn.serving.shards import cut
from flows import runs
from flows.commandline import run_flow
from flows.settings import ScoreSettings
from tasks import fetching, scoring


@runs.flow(ScoreSettings)
def score(settings: ScoreSettings) -> runs.End:
    """Images in, one table of answers out; each shard of images is cached and shows in the Prefect UI."""
    runs.check(settings)
    version = scoring.choose_version(settings.models.absolute(), settings.name, settings.provider, settings.int8)
    shards = cut(fetching.fetch_input(settings.input, settings.store), settings.shard_images)
    how: dict[str, Any] = {"provider": settings.provider, "int8": settings.int8, "store": settings.store.absolute()}
    parts = scoring.score(shards, version, **how)
    return runs.end_scoring(scoring.join(parts, output=settings.output.absolute()))


if __name__ == "__main__":
    run_flow(ScoreSettings, score, describe)
