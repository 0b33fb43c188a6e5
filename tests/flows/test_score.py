"""The scoring flow: what runs, what is cached, what a failed run leaves, and what is refused."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from candidates import explained, flip_bit  # noqa: F401  (a fixture)
from conftest import Run, run_flow
from PIL import Image
from prefect.client.orchestration import get_client
from pydantic import ValidationError
from scored import expected, names_in, photos  # noqa: F401  (a fixture)

from cnn.publication.champions import promote
from cnn.publication.manifest import Manifest
from cnn.serving.predictor import Predictor
from cnn.serving.scoring import save_scores
from cnn.support.errors import UserError
from flows.score import score
from flows.settings import ScoreSettings
from tasks import scoring

Runner = Callable[..., Run]


@pytest.fixture
def models(explained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(explained, tmp_path / "models")


@pytest.fixture
def run(photos: Path, models: Path, tmp_path: Path) -> Runner:
    places = {"store": tmp_path / "store", "models": models, "input": photos, "output": tmp_path / "scores.parquet"}
    return lambda **changes: run_flow(score, ScoreSettings(**places, shard_images=4, **changes))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The images that were decoded to be answered, in no order."""
    seen: list[bytes] = []
    view = Predictor.view

    def watched(self: Predictor, data: Any) -> Any:
        seen.append(data)
        return view(self, data)

    monkeypatch.setattr(Predictor, "view", watched)
    yield seen


def add_champion(models: Path) -> None:
    """A second version that becomes the champion."""
    first = models / "food" / "v0001"
    second = shutil.copytree(first, models / "food" / "v0002")
    Manifest(**dict(Manifest.open(first)) | {"version": "v0002"}).save(second)
    promote(second)


def page() -> str:
    with get_client(sync_client=True) as client:
        pages = [each for each in client.read_artifacts() if each.key == "score-report"]
    return str(max(pages, key=lambda each: str(each.created)).data)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_run_a_second_and_a_change(
    run: Runner, opened: list[bytes], photos: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*given: Any) -> None:
        """Save the scores of a shard, and replace the champion after the first."""
        save_scores(*given)
        if not (models / "food" / "v0002").exists():
            add_champion(models)

    monkeypatch.setattr(scoring, "save_scores", save)
    first = run()
    assert first.state == "Scored" and first.message.startswith("14 images scored by food v0001: ")
    assert set(first.states.values()) == {"Completed"} and len(first.states) > 3
    predictor = Predictor(models / "food" / "v0001")
    for row in pq.read_table(first.version).to_pylist():
        data = (photos / row["name"]).read_bytes()
        assert row == row | expected(predictor, data) | {"version": "v0001"}
    assert "| cut.jpg | damaged" in page() and page().startswith("# score: Scored\n\n14 images")
    monkeypatch.setattr(scoring, "save_scores", save_scores)

    second = run()
    assert second.message.startswith("14 images scored by food v0002: ")
    shutil.rmtree(models / "food" / "v0002")
    promote(models / "food" / "v0001")
    opened.clear()
    third = run()
    assert opened == [] and third.worked() == {"join scores"}  # another run had replaced the file
    assert run().worked() == set()

    Image.new("RGB", (40, 40), "red").save(photos / "0100.jpg")
    changed = run()
    assert len(changed.worked() - {"join scores"}) == 1
    assert (photos / "0100.jpg").read_bytes() in opened and 0 < len(opened) <= 4
    flip_bit(changed.version)
    assert run().worked() == {"join scores"}


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_interrupted_run_is_continued(
    run: Runner, opened: list[bytes], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Predictor.view

    def failing(self: Predictor, data: Any) -> Any:
        if len(opened) == 9:
            raise MemoryError
        return watched(self, data)

    monkeypatch.setattr(Predictor, "view", failing)
    with pytest.raises(UserError, match="There is not enough memory"):
        run(name="food")
    assert not (tmp_path / "scores.parquet").exists() and "not enough memory" in page()
    done = sum(pq.read_metadata(part).num_rows for part in tmp_path.glob("store/scores/*/scores.parquet"))
    assert 0 < done <= 9
    monkeypatch.setattr(Predictor, "view", watched)
    opened.clear()
    resumed = run()
    assert len(opened) == 14 - done  # those of shards that were done are not answered again
    assert pq.read_table(resumed.version)["name"].to_pylist() == names_in(photos)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input": "nowhere"}, r"^input nowhere: there is no such file or folder; check the path"),
        (
            {"input": "s3://bucket/a", "runner": "dask:tcp://10.0.0.1:1"},
            "^input s3://bucket/a: only the machine of the",
        ),
        ({"output": "/proc/nowhere/a.parquet"}, "^output /proc/nowhere: cannot be written to"),
        ({"output": "."}, "^output .: expected a new file, or scores of an earlier run, found something else"),
        ({"models": "empty"}, "^empty: no model 'hotdog' is published there"),
        ({"name": "cats"}, "no model 'cats' is published there; expected one of: food"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    settings: dict[str, str], message: str, photos: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = {"input": photos, "output": "scores.parquet", "models": models, "store": tmp_path / "store"}
    with pytest.raises(UserError, match=message):
        ScoreSettings(**base | settings).check()


@pytest.mark.parametrize("settings", [{"input": "a"}, {"input": "a", "output": "b", "shard_images": 0}])
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"output|shard_images"):
        ScoreSettings(**settings)
