"""The first steps of the hotdog flow, on whichever runner, for the tests of clusters."""

import os
import signal
from pathlib import Path
from typing import Any

from prefect import flow

from cnn.networks.architectures import PRETRAINED
from cnn.support.backend import CPU
from cnn.support.references import Reference
from cnn.training.recipes import hotdog_recipe
from tasks import fetching, preparing, training
from tasks.runners import running_on
from tasks.steps import step


def train(data: Path, weights: Path, store: Path, runner: str) -> list[Reference]:
    """Dataset, features and checkpoint."""
    (stage,) = hotdog_recipe().stages
    where: dict[str, Any] = {"network": PRETRAINED, "devices": CPU, "store": store}

    @flow
    def steps() -> list[Reference]:
        with running_on(runner):
            source, start = fetching.open_data(data), fetching.open_weights(weights, PRETRAINED)
            dataset = preparing.prepare(source, labels=None, test_as_validation=False, store=store)
            where.update(dataset=dataset, weights=start)
            inputs = preparing.make_inputs(stage, **where)
            trained = training.train_stage(stage, inputs=inputs, positive=None, seed=0, **where)
        return [dataset, inputs, trained]

    return steps()


@step("end")
def end(folder: Path) -> Reference:
    """End the process that runs it, as the system does if there is too little memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Reference.to(folder)


def files(reference: Reference) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in reference.path.iterdir()}
