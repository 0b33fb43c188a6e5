"""Transfer learning: a stage from pretrained features to a checkpoint (notebook, "Transfer Learning")."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cnn.data.datasets import Dataset
from cnn.data.images import CROP
from cnn.networks.architectures import PRETRAINED, squeezenet
from cnn.networks.running import compile_network, initialise, set_parameters
from cnn.support.backend import CPU, Devices, Network, mx
from cnn.training.batches import Batches
from cnn.training.checkpoints import Arrays, Checkpoint
from cnn.training.features import FeatureBatches, embed
from cnn.training.hyperparameters import FeatureStage, ImageStage, Stage
from cnn.training.learner import Classes, Learner, Model
from cnn.training.loop import train
from cnn.training.records import RecordBatches, pack_records


def transfer(
    dataset: Dataset,
    start: Checkpoint,
    stage: Stage,
    *,
    positive: str | None = None,
    seed: int = 0,
    devices: Devices = CPU,
    inputs: Path | None = None,
    state_file: Path | None = None,
) -> Checkpoint:
    """Train SqueezeNet on a dataset for one stage, from pretrained weights or an earlier stage's checkpoint.

    Args:
        start: where the parameters come from; its history is continued.
        positive: the class of precision, recall and F1; None: ``hotdog`` if there is one, else their mean.
        inputs, state_file: what `make_inputs` wrote for this stage, and what a killed training resumes from; both are
            kept in a temporary folder if None.

    Raises:
        UserError: there is no class ``positive``, or the loss became infinite or NaN.
    """
    classes = Classes.of(dataset, positive)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        if inputs is None:
            inputs = folder / "inputs"
            make_inputs(dataset, start.parameters, stage, inputs, seed=seed, devices=devices)
        batches = make_batches(dataset, inputs, stage, seed)
        learner = Learner(stage, classes, transfer_model(stage, len(classes.names), start.parameters, seed, devices))
        values, rows, timings, kept = train(learner, batches, seed=seed, state_file=state_file or folder / "state.npz")
    number = 1 + max((int(row["stage"]) for row in start.history), default=0)
    return Checkpoint(
        PRETRAINED,
        dataset.classes,
        values,
        history=(*start.history, *({"stage": number, **row} for row in rows)),
        timings=(*start.timings, *timings),
        kept=len(start.history) + kept,
    )


def make_inputs(
    dataset: Dataset, weights: Arrays, stage: Stage, folder: Path, *, seed: int = 0, devices: Devices = CPU
) -> None:
    """Write into ``folder`` what a stage is trained on: cached features, or records."""
    if isinstance(stage, FeatureStage):
        embed(dataset, weights, folder, views=stage.views, seed=seed, devices=devices)
    else:
        pack_records(dataset, folder)


def make_batches(dataset: Dataset, inputs: Path, stage: Stage, seed: int) -> Batches:
    """The batches of a stage, from what `make_inputs` wrote."""
    if isinstance(stage, FeatureStage):
        return FeatureBatches(dataset, inputs, stage, seed)
    return RecordBatches(dataset, inputs, stage, seed)


def transfer_model(stage: Stage, classes: int, start: Arrays, seed: int, devices: Devices = CPU) -> Model:
    """SqueezeNet with the features of ``start`` and a new output block.

    The output block is taken over, too, if all layers are trained and it has as many classes.
    """
    net = initialise(squeezenet(classes), CROP, seed, devices=devices)
    if isinstance(stage, FeatureStage):
        net.output[0].bias.set_data(mx.nd.full((classes,), stage.output_bias))
    set_parameters(net, start, prefix="features")
    trains_all = isinstance(stage, ImageStage) and stage.trains == "all"
    if trains_all and len(start["output.0.bias"]) == classes:
        set_parameters(net, start, prefix="output")
    if isinstance(stage, FeatureStage):
        forward = compile_network(net.output)
    else:
        forward = compile_network(net) if trains_all else _with_frozen_features(net)
    return Model(net, net if trains_all else net.output, forward, forward, devices)


def _with_frozen_features(net: Network) -> Callable[[Any], Any]:
    features, output = compile_network(net.features), compile_network(net.output)

    def forward(images: Any) -> Any:
        # the frozen part keeps its dropout, as in the notebook, but computes no gradients
        with mx.autograd.pause(train_mode=mx.autograd.is_training()):
            frozen = features(images)
        return output(frozen)

    return forward
