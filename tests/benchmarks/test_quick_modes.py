"""Every benchmark runs from end to end in its quick mode, whose figures mean nothing."""

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks import (
    api,
    audit,
    backbones,
    cifar_vs_notebook,
    drift,
    gate,
    head_scale,
    hotdog_vs_notebook,
    memory,
    novelty,
    serving,
)
from benchmarks.harness import write_tiles
from cnn.data.datasets import Dataset
from cnn.support.errors import UserError

#: Stands in for a Python that has torch: says what it was given.
PYTORCH = """
import json, sys
from pathlib import Path
import numpy as np
_, program, photos, features, positive, epochs, seed = sys.argv
images = len(list(Path(photos).glob(f"*/{positive}/*.jpg")))
print(json.dumps({"seconds": int(epochs), "images": images, "accuracy": len(np.load(features)), "f1": int(seed)}))
"""


@pytest.fixture
def server(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes that a benchmark starts use the test server; each would start one of its own."""
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))


@pytest.mark.long
def test_audit(capsys: pytest.CaptureFixture) -> None:
    audit.main(["--quick", "--leave-out", "train/hotdog/0.png"])
    *_, shares, gain = capsys.readouterr().out.splitlines()
    assert shares.startswith("48 images, share of flipped labels found: ") and gain.startswith("F1 ")


@pytest.mark.long
def test_cifar_vs_notebook(capsys: pytest.CaptureFixture) -> None:
    cifar_vs_notebook.main(["--quick", "--architectures", "vgg"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| vgg")]
    assert [row[2] for row in rows] == ["as-written", "notebook", "tuned"]
    assert lines[-1].startswith("vgg as written: ")


def test_subset_keeps_both_splits(tmp_path: Path) -> None:
    chosen = cifar_vs_notebook.subset(write_tiles(tmp_path / "tiles", images=8), 4, tmp_path)
    assert [len(list((chosen / part).rglob("*.png"))) for part in ("train", "test")] == [4, 4]


@pytest.mark.long
@pytest.mark.usefixtures("prefect_server")
def test_hotdog_vs_notebook(capsys: pytest.CaptureFixture) -> None:
    hotdog_vs_notebook.main(["--quick"])
    output = capsys.readouterr()
    assert "photos to best checkpoint, s" in output.out and "flow train head: " in output.err
    assert "PyTorch was left out: name a Python that has it with --torch." in output.out


def test_pytorch_gets_photos_and_weights(drawn_dataset: Dataset, weights_file: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{PYTORCH}", encoding="utf-8")
    python.chmod(0o755)
    found = hotdog_vs_notebook.run_pytorch(python, drawn_dataset, tmp_path, weights_file, 1, epochs=2, seed=3)
    name = drawn_dataset.classes[1]
    images = sum(drawn_dataset.counts[split][name] for split in ("train", "validation"))
    assert found == hotdog_vs_notebook.Outcome(seconds=2, images=images, accuracy=50, f1=3)
    with pytest.raises(UserError, match="expected a Python with torch and torchvision, found exit status 1: see above"):
        hotdog_vs_notebook.run_pytorch(Path("false"), drawn_dataset, tmp_path, weights_file, 1, epochs=2, seed=3)


@pytest.mark.slow
def test_backbones(capsys: pytest.CaptureFixture) -> None:
    backbones.main(["--quick"])
    _, _, row, *_ = capsys.readouterr().out.splitlines()
    name, *figures = row.strip("| ").split(" | ")
    assert name == "squeezenet1_1" and len(figures) == 5 and all(float(figure) >= 0 for figure in figures)


def test_renamed_training_task_is_reported() -> None:
    assert hotdog_vs_notebook.training_end({"open photos": (0, 1), "train head": (1, 2)}) == 2
    with pytest.raises(UserError, match=r"expected one named 'train …', found open photos, fit output block"):
        hotdog_vs_notebook.training_end({"open photos": (0, 1), "fit output block": (1, 2)})


@pytest.mark.long
def test_novelty(capsys: pytest.CaptureFixture) -> None:
    novelty.main(["--quick"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 2 * len(novelty.MEASURES) and {len(row) for row in rows} == {7}


@pytest.mark.long
def test_drift(capsys: pytest.CaptureFixture) -> None:
    drift.main(["--quick"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 2 * 4 and {len(row) for row in rows} == {5}


@pytest.mark.slow
def test_gate(capsys: pytest.CaptureFixture) -> None:
    gate.main(["--quick", "--retrainings", "1"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(gate.rules()) and {len(row) for row in rows} == {6}


@pytest.mark.long
@pytest.mark.usefixtures("server")
def test_memory(capsys: pytest.CaptureFixture) -> None:
    memory.main(["--quick"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if " run, " in line]
    assert {"embed: Completed", "embed: Cached", "publish drawn: Cached"} <= {row[0].partition(", ")[2] for row in rows}
    (features,) = (int(row[3].replace(",", "")) for row in rows if row[0] == "first run, embed: Completed")
    assert 4 * 512 * 0.8 < features < 4 * 512 * 1.2  # four bytes a channel; a fifth are test images, names are added
    assert all(int(row[2]) > 100 for row in rows)


@pytest.mark.long
def test_head_scale(capsys: pytest.CaptureFixture) -> None:
    head_scale.main(["--quick"])
    lines = capsys.readouterr().out.splitlines()
    (difference,) = (line.rpartition(" ")[2] for line in lines if "scikit-learn" in line)
    assert float(difference) < 1e-6
    assert [line.split(" | ")[0] for line in lines[-3:]] == ["| prepare", "| embed", "| head"]


@pytest.mark.long
@pytest.mark.usefixtures("prefect_server")
def test_scale(capsys: pytest.CaptureFixture) -> None:
    from benchmarks import scale  # imports Prefect and Dask

    scale.main(["--quick"])
    *lines, last = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert [row[0] for row in rows[1:]] == ["| 1", "| 1 again"] and {len(row) for row in rows} == {4}
    assert last.startswith("A shard of next to no work takes 0.")


@pytest.mark.long
def test_api(capsys: pytest.CaptureFixture) -> None:
    api.main(["--quick"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    names = ["`cnn serve`", "plain handler"]
    assert [row[:2] for row in rows[1:]] == [[f"| {clients}", name] for clients in (1, 8, 64) for name in names]
    assert {row[-1] for row in rows[1:]} == {"0 |"}


@pytest.mark.long
@pytest.mark.usefixtures("prefect_server")
def test_serving(capsys: pytest.CaptureFixture) -> None:
    serving.main(["--quick"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[1:3]] == ["| this, without Prefect", "| this flow"]
    assert {len(row) for row in rows} == {5}


@pytest.mark.long
@pytest.mark.usefixtures("prefect_server")
def test_prefect_overhead(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from benchmarks import prefect_overhead  # imports Prefect

    monkeypatch.setattr(prefect_overhead, "prefect_test_harness", lambda **_: nullcontext())  # there is one
    prefect_overhead.main(["--quick"])
    output = capsys.readouterr().out
    assert [line.split(",")[0] for line in output.splitlines() if line.startswith("| ")] == [
        "| `import prefect.flows`", "| `import flows.hotdog`", "| first task", "| first task", "| first task",
        "| a task that runs", "| a task from the cache",
    ]  # fmt: skip
