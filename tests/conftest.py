"""Fixtures that several rooms share: drawn images, pretrained-like weights, Prefect's test server."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # two processes of tests share the cores: threads that
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # wait by spinning take 6 % of their time
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")  # before anything imports Prefect

from hypothesis import settings
from PIL import Image

from cnn.data.datasets import Dataset
from cnn.data.images import Preprocessing
from cnn.data.preparation import prepare
from cnn.data.sample import CLASSES, draw
from cnn.networks.architectures import ARCHITECTURES, Architecture
from cnn.networks.initializers import random_parameters
from cnn.support.backend import mx
from cnn.training.checkpoints import save_parameters
from cnn.training.pixels import pack_pixels
from cnn.training.records import pack_records

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"

collect_ignore = ["preloaded.py"]  # its import changes what figures are: for processes of their own only

settings.register_profile("any machine", deadline=None)  # how long an example takes depends on what else runs
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--network", action="store_true", help="run the tests that download from the internet")
    parser.addoption("--slow", action="store_true", help="run the tests that take ten seconds or more")
    parser.addoption("--moments", type=int, default=1, help="how often each flow is killed (tests/faults)")
    parser.addoption("--long", action="store_true", help="run the tests that take a minute or show one more case")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    longest = ("test_deployments", "/tests/flows/", "/tests/benchmarks/")  # first, so that none is left at the end
    items.sort(key=lambda item: [place not in item.path.as_posix() for place in longest])
    reasons = {} if config.getoption("--network") else {"network": "downloads from the internet: needs --network"}
    if not config.getoption("--long"):
        reasons["long"] = "takes a minute or shows one more case: needs --long"
    if not config.getoption("--slow"):
        reasons["slow"] = "takes ten seconds or more: needs --slow"
    if any(item.get_closest_marker("gpu") for item in items) and not mx.context.num_gpus():
        reasons["gpu"] = "needs a GPU that this MXNet build can use"
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def write_images(folder: Path, count: int, first: int = 0, labels: tuple[str, ...] = CLASSES) -> None:
    """``count`` drawn images in each class folder."""
    for label in labels:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in range(first, first + count):
            Image.fromarray(draw(label, 0, index)).save(folder / label / f"{index:04}.jpg", quality=90)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with its own split: 8 training, 4 validation and 4 test images of each class."""
    folder = tmp_path_factory.mktemp("drawn")
    for split, first, count in (("train", 0, 8), ("validation", 100, 4), ("test", 200, 4)):
        write_images(folder / split, count, first)
    return folder


@pytest.fixture(scope="session")
def drawn_dataset(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """`drawn`, prepared."""
    return prepare(drawn, tmp_path_factory.mktemp("prepared") / "dataset")


@pytest.fixture(scope="session")
def records(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`drawn` as MXNet records."""
    folder = tmp_path_factory.mktemp("records") / "packed"
    pack_records(drawn_dataset, folder)
    return folder


@pytest.fixture(scope="session")
def pixels(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`drawn` as arrays of images of 32 px."""
    folder = tmp_path_factory.mktemp("pixels") / "packed"
    pack_pixels(drawn_dataset, Preprocessing.whole(32), folder)
    return folder


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parameters that stand in for ImageNet's."""
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    save_parameters(path, random_parameters(seed=0))
    return path


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prefect's own test server with a database and results of its own."""
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    results = {PREFECT_LOCAL_STORAGE_PATH: str(tmp_path_factory.mktemp("prefect") / "results")}
    with prefect_test_harness(server_startup_timeout=120), temporary_settings(results):
        yield


@dataclass
class Run:
    """What a flow run left: the version's folder, its last state, and the state of each task by its name."""

    version: Path
    state: str
    message: str
    states: dict[str, str]

    def worked(self) -> set[str]:
        """Tasks that did not come from the cache."""
        return {name for name, state in self.states.items() if state != "Cached"}


def run_flow(flow: Any, settings: Any, named: Callable[[str], str] = str) -> Run:
    """Run a flow on Prefect's test server; ``named`` may shorten the tasks' names."""
    state = flow(**dict(settings), return_state=True)
    version = state.result()
    return Run(version.path, state.name, state.message, task_states(state.state_details.flow_run_id, named))


def task_states(flow_run: UUID, named: Callable[[str], str] = str) -> dict[str, str]:
    """The state of each task of a flow run, by its name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    deadline = time.monotonic() + 120
    wanted, before = FlowRunFilter(id={"any_": [flow_run]}), None
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:  # the server writes down what tasks did a moment after they did it
            tasks = client.read_task_runs(flow_run_filter=wanted)
            final = (task for task in tasks if task.state and task.state.is_final())
            ended = sorted((named(task.name), str(task.state and task.state.name)) for task in final)
            if len(ended) == len(tasks) and ended == before:
                return dict(ended)
            before = ended
            time.sleep(0.2)
    raise TimeoutError(f"of the tasks only these have ended: {before}")


@pytest.fixture
def lenet(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """A small network, for images of 6 px and more, that can be trained under the name ``lenet``."""

    def build(classes: int) -> Any:
        nn, net = mx.gluon.nn, mx.gluon.nn.HybridSequential()
        net.add(nn.Conv2D(6, 5, activation="relu"), nn.MaxPool2D(2), nn.Dense(classes))
        return net

    monkeypatch.setitem(ARCHITECTURES, "lenet", Architecture(build, smallest_side=6))
    return build


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Path of a file or folder of the real data beside the project; skips where there is none."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"the real data {name} is not beside this project")
        return SHARED / name

    return find
