"""Transfer learning: a stage from pretrained features to a checkpoint (notebook, "Transfer Learning")."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn.data.datasets import Dataset
from cnn.data.decoding import decode
from cnn.data.images import CROP, center_view, to_tensor
from cnn.networks.architectures import squeezenet
from cnn.networks.running import compile_network, initialise, parameters, set_parameters
from cnn.support.backend import CPU, Devices, Network, mx, structural_parameters
from cnn.support.errors import UserError
from cnn.training.checkpoints import Arrays, Checkpoint
from cnn.training.features import FeatureStore, embed, learning_splits
from cnn.training.head import Head, learning_curve, solve_head
from cnn.training.hyperparameters import HeadStage, Stage
from cnn.training.learner import Classes, Learner, Model
from cnn.training.loop import train
from cnn.training.novelty import Novelty
from cnn.training.partial_sums import complete, sample
from cnn.training.records import RecordBatches, pack_records

#: So many training images, and images that show nothing, tell how far below 0 outputs may be, and that times a margin
#: is what keeps the ReLU behind the output block from clipping.
_PROBED_IMAGES, _MARGIN = 16, 2.0
#: From so many images at most the strength of a head is chosen; each takes 20 KB. The head of more is solved in blocks.
_IN_MEMORY = 20_000


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
    """Solve or train the output block of a pretrained network on a dataset; its features stay as they are.

    Args:
        start: where the features come from.
        positive: the class of precision, recall and F1; None: ``hotdog`` if there is one, else their mean.
        inputs, state_file: what `make_inputs` wrote for this stage, and what a killed training resumes from; both are
            kept in a temporary folder if None.

    Raises:
        UserError: there is no class ``positive``, a class has too few images, or the loss became infinite or NaN.
    """
    classes = Classes.of(dataset, positive)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if inputs is None:
            inputs = folder / "inputs"
            make_inputs(dataset, start, stage, inputs, devices=devices)
        if isinstance(stage, HeadStage):
            return _solve(dataset, start, stage, inputs, seed, devices)
        model = transfer_model(len(classes.names), start.parameters, seed, devices)
        batches = RecordBatches(dataset, inputs, stage, seed)
        found = train(Learner(stage, classes, model), batches, seed=seed, state_file=state_file or folder / "state.npz")
    values, history, timings, kept = found
    return Checkpoint(start.network, dataset.classes, values, tuple(history), tuple(timings), kept)


def make_inputs(dataset: Dataset, start: Checkpoint, stage: Stage, folder: Path, *, devices: Devices = CPU) -> None:
    """Write into ``folder`` what a stage is trained on: features, or records."""
    if isinstance(stage, HeadStage):
        splits = learning_splits(dataset, stage.keep_validation)
        embed(dataset, start, folder, splits=splits, devices=devices)
    else:
        pack_records(dataset, folder)


# ---- a head that is solved


def _solve(
    dataset: Dataset, start: Checkpoint, stage: HeadStage, features: Path, seed: int, devices: Devices
) -> Checkpoint:
    """The head solved on the images that it may learn from, in the place of the output block."""
    ids, labels = _learning_images(dataset, stage)
    store, chosen = FeatureStore(features), sample(labels, _IN_MEMORY, seed)
    values = store.load([ids[number] for number in chosen])
    head = solve_head(values, labels[chosen], stage, seed)
    curve = learning_curve(values, labels[chosen], head.strength, stage, seed)
    if len(chosen) < len(ids):
        head = complete(head, lambda numbers: store.load([ids[number] for number in numbers]), labels, stage, seed)
    net = initialise(start.network.build(len(dataset.classes)), start.network.preprocessing.crop, seed, devices=devices)
    set_parameters(net, start.parameters, prefix="features")
    set_parameters(net, head_parameters(net, head, _probes(dataset, start, seed)), prefix="output")
    return replace(
        start,
        network=start.network.model_copy(update={"mirrored_mean": stage.mirrored_mean}),
        classes=dataset.classes,
        parameters=parameters(net),
        path=tuple(each.facts() for each in head.path),
        strength=head.strength,
        learning_curve=tuple({"images": count, "confusion": confusion.tolist()} for count, confusion in curve),
        held_out={"ids": np.array(ids), "probabilities": head.held_out.astype(np.float32)},
        novelty=Novelty.fit(values, seed),
    )


def _learning_images(dataset: Dataset, stage: HeadStage) -> tuple[list[str], NDArray[np.int64]]:
    """Ids and labels (n,) of the images that the head is solved from.

    Raises:
        UserError: names a class that has fewer than two.
    """
    found = [dataset.ids_and_labels(split) for split in learning_splits(dataset, stage.keep_validation)]
    ids, labels = [image_id for each, _ in found for image_id in each], np.concatenate([each for _, each in found])
    for name, count in zip(dataset.classes, np.bincount(labels, minlength=len(dataset.classes)), strict=True):
        if count < 2:
            raise UserError(
                f"class {name}: expected two images or more to learn from, found {count}: add some, as every image is "
                "also measured by a head that does not know it."
            )
    return ids, labels


def _probes(dataset: Dataset, start: Checkpoint, seed: int) -> NDArray[np.float32]:
    """Inputs (n, 3, side, side) by which the range of the outputs is measured: images, black, white and noise."""
    preprocessing = start.network.preprocessing
    images = [center_view(decode(row.data), preprocessing) for row in islice(dataset.rows("train"), _PROBED_IMAGES)]
    shape = (preprocessing.crop, preprocessing.crop, 3)
    noise = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    drawn = map(Image.fromarray, (np.zeros_like(noise), np.full_like(noise, 255), noise))
    return to_tensor([*images, *drawn], preprocessing)


def head_parameters(net: Network, head: Head, probes: NDArray[np.float32]) -> Arrays:
    """The head as parameters of the output block, whose one layer with parameters is linear.

    SqueezeNet's has a ReLU between that and the mean over positions. Softmax does not see that every bias is greater by
    the same number. With twice the largest output at any position of the ``probes``, and 1 at least, the ReLU never
    clips, and the block is as linear as the head.
    """
    bias = head.bias
    if any(isinstance(layer, mx.gluon.nn.Activation) for layer in net.output):
        maps = net.features(mx.nd.array(probes, ctx=next(iter(net.collect_params().values())).list_ctx()[0])).asnumpy()
        outputs = np.einsum("nchw,kc->nkhw", maps, head.weight) + bias[:, None, None]
        bias = bias + max(1.0, _MARGIN * float(np.abs(outputs).max()))
    values = {"weight": head.weight, "bias": bias}
    return {
        name: values[name.rpartition(".")[2]].reshape(parameter.shape).astype(np.float32)
        for name, parameter in structural_parameters(net).items()
        if name.startswith("output.")
    }


# ---- an output block that is trained


def transfer_model(classes: int, start: Arrays, seed: int, devices: Devices = CPU) -> Model:
    """SqueezeNet with the features of ``start``, which are frozen, and a new output block."""
    net = initialise(squeezenet(classes), CROP, seed, devices=devices)
    set_parameters(net, start, prefix="features")
    forward = _with_frozen_features(net)
    return Model(net, net.output, forward, forward, devices)


def _with_frozen_features(net: Network) -> Callable[[Any], Any]:
    features, output = compile_network(net.features), compile_network(net.output)

    def forward(images: Any) -> Any:
        # the frozen part keeps its dropout, as in the notebook, but computes no gradients
        with mx.autograd.pause(train_mode=mx.autograd.is_training()):
            frozen = features(images)
        return output(frozen)

    return forward
