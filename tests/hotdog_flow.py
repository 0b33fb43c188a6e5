"""Runs of the hotdog flow on drawn images: fixtures, which a test module gets by importing them."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, run_flow

from flows.hotdog import HotdogSettings, hotdog

Runner = Callable[..., Run]
ALL = {"open", "prepare", "weights", "embed", "train", "evaluate", "publish"}
TRAINING = {"train", "evaluate", "publish"}


def short(name: str) -> str:
    """First word of a task run's name, or "weights" where it is about these."""
    return "weights" if name.endswith(" weights") else name.split()[0]


def run_in(folder: Path, weights_file: Path, data: Path, **settings: Any) -> Run:
    """Run the flow with its store and its models in a folder."""
    places = {"store": folder / "store", "models": folder / "models", "weights": str(weights_file), "data": str(data)}
    return run_flow(hotdog, HotdogSettings(**{**places, **settings}), short)


@pytest.fixture
def run(tmp_path: Path, weights_file: Path) -> Runner:
    return partial(run_in, tmp_path, weights_file)


@pytest.fixture(scope="module")
def published(drawn: Path, weights_file: Path, prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that many tests look at and none changes."""
    return run_in(tmp_path_factory.mktemp("published"), weights_file, drawn)


@pytest.fixture
def photos(tmp_path: Path, drawn: Path) -> Path:
    """A copy of the drawn images that a test may change."""
    return shutil.copytree(drawn, tmp_path / "photos")
