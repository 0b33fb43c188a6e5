"""A predictor without a network: it sees how red an image is, and how much that says depends on its version."""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from cnn.data.images import keep_decoded
from cnn.evaluation.answers import Answer
from cnn.serving.predictor import Predictor
from cnn.serving.web.app import create_app
from cnn.serving.web.current import CurrentChampion
from cnn.serving.web.uploads import Limits

CLASSES = ("hot_dog", "not_hot_dog")


def facts(**changes: Any) -> dict[str, Any]:
    """A manifest, as far as the server reads it."""
    return {
        "created": "2026-01-31T00:00:00+00:00",
        "network": {"preprocessing": {"short_side": 256, "crop": 224}},
        "positive": "hot_dog",
        "metrics": {
            "test": {"images": 8, "f1": 0.75, "accuracy": 0.875, "intervals": {"f1": [0.5, 1.0]}, "roc_auc": None}
        },
        "calibration": {"positive": 0, "threshold": 0.25},
        "files": {},
    } | changes


class StubPredictor:
    """Red images are hot dogs: the surer, the higher the number of the version."""

    def __init__(self, version: Path, *, before: Callable[[], None] = lambda: None, **changes: Any) -> None:
        self.version, self.classes, self.facts, self._before = version, CLASSES, facts(**changes), before
        self.sure = 1 - 1 / (2 + int(version.name[1:]))

    def view(self, image: bytes | Image.Image) -> Image.Image:
        return (keep_decoded(image) if isinstance(image, bytes) else image).resize((2, 2))

    def answer(self, views: Iterable[Image.Image]) -> Iterator[Answer]:
        self._before()
        for view in views:
            red, _, blue = np.asarray(view).mean((0, 1))
            shares = np.array([self.sure, 1 - self.sure] if red > blue else [1 - self.sure, self.sure], np.float32)
            activations = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 1]]], np.float32)
            yield Answer(CLASSES, shares, int(red <= blue), novel=bool(red == blue), activations=activations)


def champion(folder: Path, number: int = 1, **changes: Any) -> CurrentChampion:
    """A stub's version that is the champion."""
    return CurrentChampion(lambda: cast(Predictor, StubPredictor(folder / f"v{number:04}", **changes)))


def application(folder: Path, limits: Limits | None = None, **settings: Any) -> FastAPI:
    """The application with a stub's version."""
    return create_app(champion(folder), limits or Limits(), **settings)


@contextmanager
def client_of(app: FastAPI) -> Iterator[TestClient]:
    """A client of an application that runs."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def encoded(colour: str = "red", kind: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    """An encoded image of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()
