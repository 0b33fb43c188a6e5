"""The current champion: replaced under load, without an error and without an answer of two versions."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from fastapi import FastAPI
from stub_predictor import StubPredictor, client_of, encoded

from cnn.__main__ import main
from cnn.publication.champions import find_model
from cnn.serving.predictor import Predictor
from cnn.serving.web import server
from cnn.serving.web.app import create_app
from cnn.serving.web.current import CurrentChampion
from cnn.serving.web.uploads import Limits
from cnn.support.errors import UserError
from cnn.support.files import atomic_file


def name_champion(folder: Path, version: str) -> None:
    with atomic_file(folder / "champion.json") as temporary:
        temporary.write_text(version, encoding="utf-8")


def load(folder: Path) -> Predictor:
    version = (folder / "champion.json").read_text(encoding="utf-8")
    if not version.startswith("v"):
        raise UserError(f"{version}: it was altered.")
    return cast(Predictor, StubPredictor(folder / version))


@pytest.fixture
def current(tmp_path: Path) -> CurrentChampion:
    name_champion(tmp_path, "v0001")
    return CurrentChampion(lambda: load(tmp_path))


def test_a_new_champion_takes_over(current: CurrentChampion, tmp_path: Path) -> None:
    first = current.predictor
    current.refresh()
    assert current.predictor is first
    name_champion(tmp_path, "v0002")
    current.refresh()
    assert current.predictor.version.name == "v0002"


def test_one_that_cannot_be_loaded_does_not(
    current: CurrentChampion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name_champion(tmp_path, "damaged")
    for _ in range(3):
        current.refresh()
    assert current.predictor.version.name == "v0001" and len(caplog.records) == 1
    assert not caplog.records[0].exc_info  # a sentence, no traceback
    with client_of(create_app(current, Limits())) as client:
        ready = client.get("/readyz")
        assert ready.status_code == 200 and "altered" in ready.json()["problem"]
    name_champion(tmp_path, "v0003")
    current.refresh()
    assert current.predictor.version.name == "v0003" and current.problem == ""


def test_a_fault_of_ours_is_logged_with_its_traceback(
    current: CurrentChampion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name_champion(tmp_path, "vx")
    current.refresh()
    assert "ValueError" in current.problem and caplog.records[0].exc_info


def test_a_model_that_is_published_later_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``--name`` the server stays with the model that it found at its start."""

    def publish(name: str, version: str) -> None:
        (tmp_path / name / version).mkdir(parents=True, exist_ok=True)
        name_champion(tmp_path / name, version)

    def open_champion(models: Path, name: str | None, *_: object) -> Predictor:
        return load(find_model(models, name))

    def serve(app: FastAPI, *_: object) -> None:
        publish("hotdog", "v0007")
        publish("pizza", "v0002")
        current = app.state.service.champion
        current.refresh()
        assert current.predictor.version == tmp_path / "pizza" / "v0002"

    publish("pizza", "v0001")
    monkeypatch.setattr(Predictor, "champion", open_champion)
    monkeypatch.setattr(server, "serve", serve)
    main(["serve", "--models", str(tmp_path), "--port", "0"])


def test_it_goes_on_without_champion_json(current: CurrentChampion, tmp_path: Path) -> None:
    (tmp_path / "champion.json").unlink()
    current.refresh()
    assert current.predictor.version.name == "v0001"


def test_fifty_champions_under_load(current: CurrentChampion, tmp_path: Path) -> None:
    """No error, and each answer is that of the version which it names."""
    ended, seen = threading.Event(), set()
    with client_of(create_app(current, Limits(waiting=1000))) as client:

        def ask(colours: tuple[str, ...]) -> int:
            count = 0
            while not ended.is_set():
                response = client.post("/predict", files=[("image", ("a.png", encoded(each))) for each in colours])
                found = response.json()
                assert response.status_code == 200, found
                sure = 1 - 1 / (2 + int(found["version"][1:]))
                for colour, result in zip(colours, found["results"], strict=True):
                    label = "hot_dog" if colour == "red" else "not_hot_dog"
                    assert result["class"] == label and result["probabilities"][label] == pytest.approx(sure)
                seen.add(found["version"])
                count += 1
            return count

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(ask, pair) for pair in itertools.product(("red", "blue"), repeat=2)]
            for number in range(2, 52):
                name_champion(tmp_path, f"v{number:04}")
                current.refresh()
                client.get("/readyz")
            ended.set()
            assert all(asked.result() for asked in clients)
    assert current.predictor.version.name == "v0051" and len(seen) > 10
