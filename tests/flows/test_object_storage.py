"""The hotdog flow with everything in object storage, on two machines that share nothing else."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Run, run_flow
from hotdog_flow import TRAINING, short
from object_storage import BUCKET, Server, another_machine, storage  # noqa: F401
from without_figures import no_figures  # noqa: F401  (a fixture)

from cnn.serving.scoring import Summary
from cnn.support.objects import Object
from flows.hotdog import HotdogSettings, hotdog
from flows.score import ScoreSettings, score

PLACES = {"store": f"{BUCKET}/store", "models": f"{BUCKET}/models", "data": f"{BUCKET}/photos"}


def upload(folder: Path, address: str) -> None:
    """Put a folder as a user would, without digests."""
    for file in sorted(folder.rglob("*.jpg")):
        (Object(address) / file.relative_to(folder).as_posix()).put(file, "")


@pytest.mark.slow
def test_another_machine_does_nothing_again(
    storage: Server, drawn: Path, weights_file: Path, prefect_server: None, no_figures: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    upload(drawn, PLACES["data"])

    def run(**settings: Any) -> Run:
        return run_flow(hotdog, HotdogSettings(**PLACES, weights=str(weights_file), **settings), short)

    storage.busy_every = 10
    first = run()
    assert first.state == "New champion" and first.worked() > TRAINING
    places = {"store": tmp_path / "store", "models": tmp_path / "models", "data": str(drawn)}
    undisturbed = run_flow(hotdog, HotdogSettings(**places, weights=str(weights_file)), short).version
    for name in ("squeezenet.params", "predictions-test.parquet"):
        assert (first.version / name).read_bytes() == (undisturbed / name).read_bytes()

    second = run()
    assert second.state == "Unchanged" and not second.worked()

    another_machine(monkeypatch, tmp_path / "another")
    third = run()
    assert third.state == "Unchanged" and not third.worked()
    assert third.version != first.version and third.version.name == first.version.name
    fourth = run(center_only=True)
    assert fourth.worked() == TRAINING and fourth.version.name == "v0002"
    assert not list((tmp_path / "another").rglob("*.jpg")) and not list((tmp_path / "another").rglob("train.parquet"))

    places = {"store": PLACES["store"], "models": PLACES["models"], "input": PLACES["data"]}
    scored = run_flow(score, ScoreSettings(**places, output=tmp_path / "scores.parquet"))
    assert scored.state == "Scored" and Summary.of(tmp_path / "scores.parquet").unreadable == 0
    another_machine(monkeypatch, tmp_path / "third")
    scored = run_flow(score, ScoreSettings(**places, output=tmp_path / "scores.parquet"))
    assert not scored.worked()
