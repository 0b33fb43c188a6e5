"""Ablations: recipe ``tuned`` of the CIFAR flow without one of its differences from recipe ``notebook`` at a time."""

import argparse
from collections.abc import Iterator, Sequence

from cnn.training.hyperparameters import FromScratch
from cnn.training.recipes import cifar_recipe

#: Settings in which ``tuned`` differs from ``notebook``; those that make sense only together are one group.
DIFFERENCES = (
    ("preprocessing", "noise"),
    ("initializer",),
    ("batch_size",),
    ("mirror",),
    ("shift",),
    ("mirrored_mean",),
    ("schedule", "warm_up"),
    ("label_smoothing",),
    ("dropout",),
)
#: The same for the optimizer's own settings, which mean something else for another optimizer.
SAME_OPTIMIZER = (("learning_rate", "momentum"), ("weight_decay",))
OTHER_OPTIMIZER = (("optimizer", "learning_rate", "momentum", "weight_decay"),)


def ablations(
    architecture: str, epochs: int, groups: Sequence[Sequence[str]] = ()
) -> Iterator[tuple[str, FromScratch]]:
    """Name and settings of ``tuned`` with each group of its differences (default: all) set as in ``notebook``."""
    notebook = cifar_recipe("notebook", architecture, epochs=epochs).stages[0]
    tuned = cifar_recipe("tuned", architecture, epochs=epochs).stages[0]
    optimizer = SAME_OPTIMIZER if tuned.optimizer == notebook.optimizer else OTHER_OPTIMIZER
    for group in groups or (*DIFFERENCES, *optimizer):
        changes = {name: getattr(notebook, name) for name in group if getattr(notebook, name) != getattr(tuned, name)}
        if changes:
            yield f"tuned without {', '.join(changes)}", tuned.replace(**changes)
        elif groups:
            print(f"{architecture}: both recipes have the same {', '.join(group)}")


def differences(names: str) -> list[str]:
    """Names of settings, separated by commas.

    Raises:
        argparse.ArgumentTypeError: there is no such setting.
    """
    for name in (found := names.split(",")):
        if name not in FromScratch.model_fields:
            choices = ", ".join(FromScratch.model_fields)
            raise argparse.ArgumentTypeError(f"{name!r} is no setting; choose from {choices}")
    return found
