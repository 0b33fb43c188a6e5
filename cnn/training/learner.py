"""The learner: a network, the part of it that is trained, its loss and its optimizer, on one device or several.

The notebook's section "Transfer Learning": split the batch over the devices, run all, then let the trainer step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cnn.data.datasets import Dataset
from cnn.networks.running import set_parameters
from cnn.support.backend import CPU, Devices, Network, mx, structural_parameters
from cnn.support.errors import UserError
from cnn.training.batches import Batch
from cnn.training.checkpoints import Arrays, TrainingState
from cnn.training.hyperparameters import Training
from cnn.training.metrics import positive_class
from cnn.training.workers import current_workers


@dataclass(frozen=True)
class Classes:
    """The classes: names, which of them is positive (None: metrics are the mean), training images of each."""

    names: tuple[str, ...]
    positive: int | None
    counts: tuple[int, ...]

    @classmethod
    def of(cls, dataset: Dataset, positive: str | None = None) -> Self:
        """Those of a dataset.

        Raises:
            UserError: there is no class ``positive``.
        """
        index = positive_class(dataset.classes, positive)
        return cls(dataset.classes, index, tuple(dataset.counts["train"].values()))


@dataclass(frozen=True)
class Model:
    """A network on its devices; ``learning`` is the part whose parameters are trained.

    ``forward`` maps a batch of inputs to the outputs that the loss is computed from, ``predict`` to those that are
    evaluated, which may be computed otherwise (`cnn.networks.running.mirrored_mean`).
    """

    net: Network
    learning: Network
    forward: Callable[[Any], Any]
    predict: Callable[[Any], Any]
    devices: Devices = CPU


def class_weights(settings: Training, classes: Classes) -> NDArray[np.float32]:
    """Factor of each class in the loss, (classes,).

    ``balanced`` gives each class the same sum. ``notebook`` is its ``unbalanced_loss`` as written,
    ``(1 + 5 y) / 5``: 6/5 for the positive class and 1/5 for the others.

    >>> class_weights(Training(class_weights="notebook"), Classes(("other", "hotdog"), 1, (5, 1)))
    array([0.2, 1.2], dtype=float32)
    """
    if settings.class_weights == "equal":
        return np.ones(len(classes.names), np.float32)
    if settings.class_weights == "balanced":
        counts = np.array(classes.counts, np.float32)
        return counts.sum() / (len(counts) * counts)
    positive = np.arange(len(classes.names)) == classes.positive
    return ((1 + 5 * positive) / 5).astype(np.float32)


class Learner:
    """A model with its loss and its optimizer; learns from batches and predicts."""

    def __init__(self, settings: Training, classes: Classes, model: Model) -> None:
        self.settings, self.classes, self.model = settings, classes, model
        self.contexts, self.workers = model.devices.contexts, current_workers()
        self._weights = class_weights(settings, classes)
        self._loss = mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
        self._loss.hybridize()
        self.steps_done, self.is_dead = 0, False
        self.trainer = self._make_trainer()

    def _make_trainer(self) -> Any:
        settings, learnt = self.settings, structural_parameters(self.model.learning)
        options = {"learning_rate": settings.learning_rate, "begin_num_update": self.steps_done}
        if settings.optimizer == "sgd":
            options |= {"wd": settings.weight_decay, "momentum": settings.momentum}
            for name, parameter in learnt.items():
                parameter.wd_mult = float(name.endswith("weight"))
        optimizer = mx.optimizer.create(settings.optimizer, **options)
        optimizer.aggregate_num = 0  # one array at a time: SGD's four at a time take nearly twice as long
        in_order = list(learnt.values())  # Gluon would sort by names that count what the process built before
        return mx.gluon.Trainer(in_order, optimizer, kvstore="device", update_on_kvstore=False)

    def _split(self, array: Any) -> list[Any]:
        return mx.gluon.utils.split_and_load(array, self.contexts[: len(array)], even_split=False)

    def _targets(self, labels: NDArray[np.int64]) -> Any:
        """Smoothed one-hot labels times the class's weight, (n, classes): the loss is linear in them."""
        count, smoothing = len(self.classes.names), self.settings.label_smoothing
        smoothed = np.eye(count, dtype=np.float32)[labels] * (1 - smoothing) + smoothing / count
        return mx.nd.array(smoothed * self._weights[labels, None])

    def step(self, batch: Batch, learning_rate: float) -> tuple[float, NDArray[np.float32]]:
        """Learn from one batch, of which each worker takes a part.

        Returns its mean loss and the outputs (n, classes) it was computed from.

        Raises:
            UserError: there are more workers than images, or one did not answer in time.
        """
        inputs, labels = batch
        own = self._own_part(len(labels))
        parts = zip(self._split(inputs[own]), self._split(self._targets(labels[own])), strict=True)
        losses, outputs = [], []
        with mx.autograd.record():
            for part, targets in parts:
                outputs.append(self.model.forward(part))
                losses.append(self._loss(outputs[-1], targets))
        mx.autograd.backward(losses)
        self.trainer.set_learning_rate(learning_rate)
        self._update(len(labels))
        if self.settings.optimizer == "adam":
            self._decay(learning_rate * self.settings.weight_decay)
        self.steps_done += 1
        found = [np.c_[output.asnumpy(), part.asnumpy()] for output, part in zip(outputs, losses, strict=True)]
        rows = self.workers.gather(np.concatenate(found), len(labels))
        return float(rows[:, -1].mean()), rows[:, :-1]

    def _own_part(self, images: int) -> slice:
        if images < self.workers.count:
            raise UserError(
                f"training {self.settings.name}: expected at most one worker for each image of a batch, found "
                f"{self.workers.count} for {images}: start fewer."
            )
        return self.workers.part(images)

    def _update(self, images: int) -> None:
        if self.workers.count == 1:
            self.trainer.step(images)
        else:
            self.workers.add_gradients(self.model.learning.collect_params())
            self.trainer.update(images)

    def _decay(self, share: float) -> None:
        if share:
            for name, parameter in structural_parameters(self.model.learning).items():
                if name.endswith("weight"):
                    for copy in parameter.list_data():
                        copy *= 1 - share

    def predict(self, batch: Batch) -> NDArray[np.float32]:
        """Outputs (n, classes) of one batch, without learning from it; each worker computes a part."""
        inputs, labels = batch
        own = self.workers.part(len(labels))
        parts = self._split(inputs[own]) if own.start < own.stop else []
        outputs = [output.asnumpy() for output in [self.model.predict(part) for part in parts]]
        none = np.empty((0, len(self.classes.names)), np.float32)
        return self.workers.gather(np.concatenate([none, *outputs]), len(labels))

    def share(self) -> None:
        """Give all workers the parameters of the one that leads."""
        self.workers.share(self.model.learning.collect_params())

    def optimizer_state(self) -> Arrays:
        """The optimizer's running averages, by parameter and position; equal on all devices."""
        states = self.trainer._updaters[0].states
        return {
            f"{index}.{place}": array.asnumpy()
            for index, state in states.items()
            for place, array in enumerate(_as_tuple(state))
        }

    def restore(self, state: TrainingState) -> None:
        """Resume from a state as if nothing had happened in between."""
        set_parameters(self.model.learning, state.current)
        self.steps_done = state.steps_done
        self.trainer = self._make_trainer()
        averages: dict[int, list[NDArray[np.float32]]] = {}
        for key, values in state.optimizer.items():
            averages.setdefault(int(key.partition(".")[0]), []).append(values)
        self.trainer._init_kvstore()  # makes the updaters, one for each device
        for updater, context in zip(self.trainer._updaters, self.contexts, strict=True):
            for index, parts in averages.items():
                copies = tuple(mx.nd.array(part, ctx=context) for part in parts)
                updater.states[index] = copies if len(copies) > 1 else copies[0]
                updater.states_synced[index] = True


def _as_tuple(state: Any) -> tuple[Any, ...]:
    if state is None:
        return ()
    return state if isinstance(state, tuple) else (state,)
