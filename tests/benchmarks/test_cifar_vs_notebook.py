"""The benchmark's quick mode: it is kept alive, its figures mean nothing."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.cifar_vs_notebook import Run, ablations, main, multiply_adds, table
from cnn.hyperparameters import FromScratch
from cnn.recipes import cifar_recipe


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Three classes of 32-px noise: 150 training and 70 test pictures."""
    chance = np.random.default_rng(0)
    for split, count in (("train", 150), ("test", 70)):
        for number in range(count):
            file = tmp_path / "noise" / split / f"class{number % 3}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(chance.integers(0, 256, (32, 32, 3), np.uint8)).save(file)
    return tmp_path / "noise"


@pytest.mark.slow
def test_quick_mode_measures_every_loop(
    noise: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["", "--data", str(noise), "--quick", "--architectures", "alexnet"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("alexnet as written: ")
    rows = [line for line in lines if line.startswith("| alexnet")]
    assert [row.split(" | ")[2] for row in rows] == ["as-written", "notebook", "tuned"]


def test_a_training_that_diverges_is_a_row_like_others() -> None:
    runs = [Run("vgg", "tuned", 0, 100, [0.5], [2.0], [1.0], test=0.5), Run("vgg", "tuned without schedule", 0, 100)]
    lines = list(table(runs))
    assert len({line.count("|") for line in lines}) == 1
    assert "| tuned without schedule | diverged |" in lines[-1]


#: Along a side of n px, kernels of 3 px meet 3n - 2. AlexNet's first, of 11 px, meet 6, 10, five times 11, and 9 of 32
#: px; its second, of 5 px, meet 3, 4, 4 and 3 of 4 px.
@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (
            "alexnet",
            [80**2 * 3 * 96, 14**2 * 96 * 192, 4**2 * 192 * 384, 4**2 * 384 * 384, 4**2 * 384 * 256,
             256 * 4096, 4096**2, 4096 * 10],
        ),
        (
            "vgg",
            [94**2 * 3 * 64, 46**2 * 64 * 128, 22**2 * 128 * 256, 10**2 * 256 * 512, *2 * [10**2 * 512 * 512],
             2048 * 512, 512**2, 512 * 10],
        ),
    ],
)  # fmt: skip
def test_multiply_adds_of_each_layer(architecture: str, expected: list[int]) -> None:
    assert multiply_adds(architecture, side=32) == expected


def test_seconds_to_an_accuracy_end_with_the_epoch_that_reached_it() -> None:
    run = Run("vgg", "tuned", 0, 100, accuracies=[0.3, 0.6, 0.5], seconds=[2, 3, 4])
    assert run.seconds_to(0.5) == 5
    assert run.seconds_to(0.7) == float("inf")


@pytest.mark.parametrize("architecture", ["alexnet", "vgg"])
def test_ablations_take_back_every_difference_of_the_preset_once(architecture: str) -> None:
    tuned, notebook = (cifar_recipe(name, architecture) for name in ("tuned", "notebook"))
    different = {name for name in FromScratch.model_fields if getattr(tuned, name) != getattr(notebook, name)}
    found = dict(ablations(architecture, epochs=7)).values()
    taken_back = [name for name in different for each in found if getattr(each, name) == getattr(notebook, name)]
    assert sorted(taken_back) == sorted(different - {"remeasure"})
