"""Every benchmark runs from end to end in its quick mode, whose figures mean nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import cifar_vs_notebook, gate, hotdog_vs_notebook, memory
from benchmarks.harness import write_tiles
from cnn.support.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes that a benchmark starts use the test server; each would start one of its own."""
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))


@pytest.mark.slow
def test_cifar_vs_notebook(capsys: pytest.CaptureFixture) -> None:
    cifar_vs_notebook.main(["--quick"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith(("| alexnet", "| vgg"))]
    assert [row[2] for row in rows] == 2 * ["as-written", "notebook", "tuned"]
    assert [line.split(":")[0] for line in lines[-2:]] == ["alexnet as written", "vgg as written"]


def test_subset_keeps_both_splits(tmp_path: Path) -> None:
    chosen = cifar_vs_notebook.subset(write_tiles(tmp_path / "tiles", images=8), 4, tmp_path)
    assert [len(list((chosen / part).rglob("*.png"))) for part in ("train", "test")] == [4, 4]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_hotdog_vs_notebook(capsys: pytest.CaptureFixture) -> None:
    hotdog_vs_notebook.main(["--quick"])
    output = capsys.readouterr()
    assert "photos to best checkpoint, s" in output.out and "flow train head: " in output.err


def test_renamed_training_task_is_reported() -> None:
    assert hotdog_vs_notebook.training_end({"open photos": (0, 1), "train all layers": (1, 2)}) == 2
    with pytest.raises(UserError, match=r"expected one named 'train …', found open photos, fit output block"):
        hotdog_vs_notebook.training_end({"open photos": (0, 1), "fit output block": (1, 2)})


@pytest.mark.slow
def test_gate(capsys: pytest.CaptureFixture) -> None:
    gate.main(["--quick", "--retrainings", "1"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(gate.rules()) and {len(row) for row in rows} == {6}


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_memory(capsys: pytest.CaptureFixture) -> None:
    memory.main(["--quick"])
    count, _, peak, *_ = capsys.readouterr().out.splitlines()[-1].split()
    assert count == "40" and float(peak) > 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_prefect_overhead() -> None:
    command = [sys.executable, "benchmarks/prefect_overhead.py", "--quick"]  # it starts a test server of its own
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert [line.split(",")[0] for line in output.splitlines() if line.startswith("| ")] == [
        "| `import prefect.flows`", "| `import flows.hotdog`", "| first task", "| first task", "| first task",
        "| a task that runs", "| a task from the cache",
    ]  # fmt: skip
