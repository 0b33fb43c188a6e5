"""Ablations take back each difference of the recipes once, or those that are named."""

from argparse import ArgumentTypeError

import pytest

from benchmarks.ablations import ablations, differences
from cnn.training.hyperparameters import FromScratch
from cnn.training.recipes import cifar_recipe


@pytest.mark.parametrize("architecture", ["alexnet", "vgg", "squeezenet"])
def test_every_difference_is_taken_back_once(architecture: str) -> None:
    tuned, notebook = (cifar_recipe(name, architecture, epochs=7).stages[0] for name in ("tuned", "notebook"))
    different = {name for name in FromScratch.model_fields if getattr(tuned, name) != getattr(notebook, name)}
    found = dict(ablations(architecture, epochs=7)).values()
    taken_back = [name for name in different for each in found if getattr(each, name) == getattr(notebook, name)]
    assert sorted(taken_back) == sorted(different - {"remeasure"})


@pytest.mark.parametrize("architecture", ["alexnet", "vgg"])
def test_named_differences_are_taken_back_together(architecture: str) -> None:
    ((name, found),) = ablations(architecture, epochs=7, groups=[differences("mirror,shift")])
    assert name == "tuned without mirror, shift"
    tuned = cifar_recipe("tuned", architecture, epochs=7).stages[0]
    assert found == tuned.replace(mirror=False, shift=0)


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match=r"'miror' is no setting; choose from .*mirror"):
        differences("miror")
