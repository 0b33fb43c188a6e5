"""The benchmark's quick mode: it is kept alive, its figures mean nothing."""

import sys
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.cifar_runs import Run, table
from benchmarks.cifar_vs_notebook import ablations, differences, main, subset
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


def test_a_subset_is_chosen_from_all_training_and_test_pictures(noise: Path, tmp_path: Path) -> None:
    chosen = subset(noise, 75, tmp_path / "chosen")
    assert [len(list((chosen / part).rglob("*.png"))) for part in ("train", "test")] == [75, 70]


def test_a_training_that_diverges_is_a_row_like_others() -> None:
    runs = [Run("vgg", "tuned", 0, 100, [0.5], [2.0], [1.0], test=0.5), Run("vgg", "tuned without schedule", 0, 100)]
    lines = list(table(runs))
    assert len({line.count("|") for line in lines}) == 1
    assert "| tuned without schedule | diverged |" in lines[-1]


def test_seconds_to_an_accuracy_end_with_the_epoch_that_reached_it() -> None:
    run = Run("vgg", "tuned", 0, 100, accuracies=[0.3, 0.6, 0.5], seconds=[2, 3, 4])
    assert run.seconds_to(0.5) == 5
    assert run.seconds_to(0.7) == float("inf")


@pytest.mark.parametrize("architecture", ["alexnet", "vgg", "squeezenet"])
def test_ablations_take_back_every_difference_of_the_preset_once(architecture: str) -> None:
    tuned, notebook = (cifar_recipe(name, architecture, epochs=7) for name in ("tuned", "notebook"))
    different = {name for name in FromScratch.model_fields if getattr(tuned, name) != getattr(notebook, name)}
    found = dict(ablations(architecture, epochs=7)).values()
    taken_back = [name for name in different for each in found if getattr(each, name) == getattr(notebook, name)]
    assert sorted(taken_back) == sorted(different - {"remeasure"})


@pytest.mark.parametrize("architecture", ["alexnet", "vgg"])
def test_ablations_take_back_what_is_named_together(architecture: str) -> None:
    ((name, found),) = ablations(architecture, epochs=7, groups=[differences("mirror,shift")])
    assert name == "tuned without mirror, shift"
    tuned = cifar_recipe("tuned", architecture, epochs=7)
    assert found == tuned.model_copy(update={"mirror": False, "shift": 0})


def test_a_difference_that_is_no_setting_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match=r"'miror' is no setting; choose from .*mirror"):
        differences("miror")
