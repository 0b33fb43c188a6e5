"""Fixtures that several rooms share: drawn pictures, pretrained-like weights, Prefect's test server."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")

from PIL import Image

from cnn.backend import mx
from cnn.checkpoints import save_parameters
from cnn.datasets import Dataset, prepare
from cnn.networks import random_parameters
from cnn.sample import CLASSES, draw

SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--network", action="store_true", help="run the tests that download from the internet")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = {} if config.getoption("--network") else {"network": "downloads from the internet: needs --network"}
    if not mx.context.num_gpus():
        reasons["gpu"] = "needs a GPU that this MXNet build can use"
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def write_pictures(folder: Path, count: int, first: int = 0, labels: tuple[str, ...] = CLASSES) -> None:
    """``count`` drawn pictures in each class folder."""
    for label in labels:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in range(first, first + count):
            Image.fromarray(draw(label, 0, index)).save(folder / label / f"{index:04}.jpg", quality=90)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with its own split: 8 training, 4 validation and 4 test pictures of each class."""
    folder = tmp_path_factory.mktemp("drawn")
    for split, first, count in (("train", 0, 8), ("validation", 100, 4), ("test", 200, 4)):
        write_pictures(folder / split, count, first)
    return folder


@pytest.fixture(scope="session")
def drawn_dataset(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """`drawn`, prepared."""
    return prepare(drawn, tmp_path_factory.mktemp("prepared") / "dataset")


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parameters that stand in for ImageNet's."""
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    save_parameters(path, random_parameters(seed=0))
    return path


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Prefect's own test server with a database of its own."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Path of a file or folder of the real data beside the project; skips where there is none."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"the real data {name} is not beside this project")
        return SHARED / name

    return find
