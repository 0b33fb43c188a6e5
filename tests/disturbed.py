"""Flows in processes that a test disturbs, and what they leave: compared with a run that nothing happened to."""

import multiprocessing
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, write_images
from prefect.client.orchestration import get_client

from cnn.publication.champions import find_champion
from cnn.publication.versions import can_answer
from cnn.support.files import file_digest

FLOWS = ("hotdog", "cifar", "score")
#: The model that each flow publishes, or scores by.
MODELS = {"hotdog": "food", "cifar": "small", "score": "food"}
#: The files of a version that are the same from run to run: the others hold times, or the number of a layer's network.
_SAME = re.compile(r"[a-z]+\.params|novelty\.npz|(predictions-.+|images)\.parquet|(metrics|classes)\.json")
_FINISHED = re.compile(r"Task run '(.+)' - Finished in state (Completed|Cached)")
_forks: Any = multiprocessing.get_context("forkserver")


def run_command(flow: str, arguments: list[str], log: str) -> None:
    """Run ``python flows/FLOW.py ARGUMENTS`` in the present process, with its output in ``log``."""
    with Path(log).open("a", encoding="utf-8") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    script = ROOT / "flows" / f"{flow}.py"
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


@dataclass(frozen=True)
class Place:
    """A flow with a store, models and a log of its own."""

    flow: str
    folder: Path
    bench: "Bench"
    changes: dict[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        """The flow's settings as flags."""
        flags = {"store": self.folder / "store", "models": self.folder / "models", "name": MODELS[self.flow]}
        inputs = self.bench.folder
        data = {"data": inputs / "drawn", "promote": "always"}
        flags |= {
            "hotdog": data | {"weights": inputs / "weights.npz"},
            "cifar": data | {"architectures": "lenet", "side": 16, "epochs": 3},
            "score": {"input": inputs / "drawn", "output": self.scores, "shard-images": 3},
        }[self.flow]
        return [text for name, value in (flags | self.changes).items() for text in (f"--{name}", str(value))]

    @property
    def scores(self) -> Path:
        return self.folder / "scores.parquet"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self, keep_log: bool = False) -> ForkServerProcess:
        """Start the flow's command; its output replaces that of the run before, or follows it."""
        self.folder.mkdir(exist_ok=True)
        if not keep_log:
            self.log.write_text("", encoding="utf-8")
        process = _forks.Process(target=run_command, args=(self.flow, self.arguments, str(self.log)), daemon=True)
        process.start()
        return process

    def start_afresh(self, **environment: str) -> "subprocess.Popen[bytes]":
        """The same in a process that is not forked but started, with another environment."""
        self.log.write_text("", encoding="utf-8")
        code = f"import preloaded, disturbed; disturbed.run_command({self.flow!r}, {self.arguments}, {str(self.log)!r})"
        return subprocess.Popen([sys.executable, "-c", code], env=os.environ | self.bench.environment | environment)

    def run(self) -> dict[str, str]:
        """Run the flow to a good end; the last state of each of its steps."""
        process = self.start()
        process.join()
        assert process.exitcode == 0, self.log.read_text(encoding="utf-8")
        return self.steps()

    def steps(self) -> dict[str, str]:
        """The steps that the last run has finished, in their order, each with the name of its state."""
        return dict(_FINISHED.findall(self.log.read_text(encoding="utf-8")))

    def outcome(self) -> dict[str, str]:
        """Digests of what was published and answers, or of the scores."""
        if self.flow == "score":
            return {"scores": file_digest(self.scores)}
        version = find_champion(self.folder / "models", MODELS[self.flow])
        files = [path for path in version.iterdir() if _SAME.fullmatch(path.name)]
        return {"champion": version.name} | {path.name: file_digest(path) for path in sorted(files)}

    def champion(self) -> str:
        """The name of the champion, which is whole."""
        version = find_champion(self.folder / "models", MODELS[self.flow])
        assert can_answer(version), f"{version} cannot answer"
        return version.name

    def left_over(self) -> list[Path]:
        """Temporary files and folders, wherever they are."""
        return list(self.folder.rglob(".*.tmp"))


@dataclass(frozen=True)
class Bench:
    """Where flows are disturbed: inputs, models with a champion, and what an undisturbed run of each flow gives."""

    folder: Path
    environment: dict[str, str]
    outcomes: dict[str, dict[str, str]] = field(default_factory=dict)
    steps: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def place(self, flow: str, name: str, **changes: str) -> Place:
        """A new place in which the model has a champion, and nothing is stored yet."""
        folder, before = self.folder / name, self.folder / "before"
        if not (before / "models" / MODELS[flow]).exists():
            Place("hotdog" if flow == "score" else flow, before, self, {"seed": "1"}).run()
        shutil.copytree(before / "models" / MODELS[flow], folder / "models" / MODELS[flow])
        return Place(flow, folder, self, changes)

    def undisturbed(self, flow: str) -> dict[str, str]:
        """What a run that nothing happens to gives; it is run once."""
        if flow not in self.outcomes:
            place = self.place(flow, f"undisturbed-{flow}")
            begin = time.monotonic()
            self.steps[flow] = list(place.run())
            self.seconds[flow] = time.monotonic() - begin
            self.outcomes[flow] = place.outcome()
        return self.outcomes[flow]

    def check(self, place: Place) -> None:
        """The outcome is that of the run that nothing happened to, and nothing temporary is left."""
        assert place.outcome() == self.undisturbed(place.flow)
        assert place.champion() == ("v0001" if place.flow == "score" else "v0002")
        assert not place.left_over()


@pytest.fixture(scope="session")
def bench(prefect_server: None, weights_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    for split, count, first in (("train", 4, 0), ("validation", 2, 100), ("test", 2, 200)):
        write_images(folder / "drawn" / split, count, first)
    shutil.copyfile(weights_file, folder / "weights.npz")
    with get_client(sync_client=True) as client:
        environment = {
            "PREFECT_API_URL": str(client.api_url),
            "PREFECT_LOCAL_STORAGE_PATH": str(folder.parent / "results"),
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
            "OMP_NUM_THREADS": "1",
        }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        _forks.set_forkserver_preload(["preloaded", "disturbed"])
        forkserver.ensure_running()
    return Bench(folder, environment)
