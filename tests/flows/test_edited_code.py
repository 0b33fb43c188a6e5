"""Both flows, run from a copy of the code that is edited between the runs; Prefect's server stays the same."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from conftest import ROOT, task_states
from edits import act, copy_code, replace, reword
from prefect.client.orchestration import get_client

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("prefect_server")]

#: Imported at the start of Python; the last line that a program prints says whether it imported MXNet.
WATCH = "import atexit, sys\natexit.register(lambda: print('mxnet' in sys.modules))\n"


def flow_runs() -> set[UUID]:
    with get_client(sync_client=True) as client:
        return {run.id for run in client.read_flow_runs()}


@dataclass
class Project:
    """A copy of the code, which runs with its store and its models beside it."""

    folder: Path
    data: Path
    weights: Path

    def run(self, flow: str, *settings: str) -> tuple[dict[str, str], bool]:
        """Run a flow; returns the state of each task by its name, and whether MXNet was imported."""
        with get_client(sync_client=True) as client:
            environment = os.environ | {"PREFECT_API_URL": str(client.api_url), "PYTHONPATH": str(self.folder)}
        command = [sys.executable, f"flows/{flow}.py", "--data", str(self.data), *settings]
        before = flow_runs()
        ended = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert ended.returncode == 0, ended.stderr
        (run,) = flow_runs() - before
        return task_states(run), ended.stdout.splitlines()[-1] == "True"

    def hotdog(self) -> tuple[dict[str, str], bool]:
        return self.run("hotdog", "--weights", str(self.weights), "--name", "hotdog")

    def cifar(self) -> tuple[dict[str, str], bool]:
        return self.run(
            "cifar", "--architectures", "squeezenet,vgg", "--side", "32", "--epochs", "1", "--name", "cifar"
        )


@pytest.fixture
def project(drawn: Path, weights_file: Path, tmp_path: Path) -> Project:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    project = Project(copy_code(ROOT, tmp_path), drawn, weights_file)
    save = 'figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH)'  # what takes most of a run's time
    replace(tmp_path / "cnn/evaluation/figures.py", save, 'Image.new("RGB", (1, 1)).save(temporary, format="png")')
    return project


def test_edits_rerun_only_what_depends_on_them(project: Project, tmp_path: Path) -> None:
    first = {flow: flow() for flow in (project.hotdog, project.cifar)}
    for _, loaded in first.values():
        assert loaded
    for path in sorted(tmp_path.rglob("*.py")):
        reword(path)  # errors, logs, help, docstrings
    for folder in ("tasks", "flows", "cnn/support"):
        for path in (tmp_path / folder).glob("*.py"):
            act(path)
    for flow, (states, _) in first.items():
        assert flow() == (dict.fromkeys(states, "Cached"), False)

    replace(tmp_path / "cnn" / "networks" / "architectures.py", "nn.Dense(512", "nn.Dense(500")
    states, _ = project.cifar()
    worked = {name for name, state in states.items() if state != "Cached"}
    assert {"train vgg", "evaluate vgg", "compare architectures"} <= worked
    assert worked <= {"train vgg", "evaluate vgg", "compare architectures", "publish cifar"}
