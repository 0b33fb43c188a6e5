"""The training loop: one for every stage, on one device or several, that a kill cannot make start over.

It is the notebook's loop (section "Transfer Learning"): split the batch over the devices, forward, backward, one step.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.backend import Device, mx
from cnn.batches import Batch, Batches
from cnn.checkpoints import Arrays, Checkpoint, Epoch, TrainingState, load_state, save_state
from cnn.errors import UserError
from cnn.metrics import confusion_matrix, scores
from cnn.networks import Network, compile_network, parameters, set_parameters, squeezenet
from cnn.progress import progress_bar
from cnn.recipes import Stage

logger = logging.getLogger(__name__)

_TOLD = ("loss", "accuracy", "f1")  # of the metrics of an epoch, what the log says


@dataclass(frozen=True)
class Task:
    """What is learned: class names, which of them F1 is about (None: the mean), training pictures per class."""

    classes: tuple[str, ...]
    positive: int | None
    counts: tuple[int, ...]


def class_weights(stage: Stage, task: Task) -> NDArray[np.float32]:
    """Factor of each class in the loss, (classes,).

    ``balanced`` gives each class the same sum. ``notebook`` is its ``unbalanced_loss`` as written,
    ``(1 + 5 y) / 5``: 6/5 for the positive class and 1/5 for the others.

    >>> class_weights(Stage(), Task(("other", "hotdog"), 1, (5, 1)))
    array([0.2, 1.2], dtype=float32)
    """
    if stage.class_weights == "balanced":
        counts = np.array(task.counts, np.float32)
        return counts.sum() / (len(counts) * counts)
    positive = np.arange(len(task.classes)) == task.positive
    return ((1 + 5 * positive) / 5).astype(np.float32)


class Learner:
    """A network on its devices, with the part that learns, its loss and its optimizer."""

    def __init__(self, stage: Stage, task: Task, start: Arrays, devices: Sequence[Device], seed: int) -> None:
        self.stage, self.task, self.devices = stage, task, list(devices)
        self.net = squeezenet(len(task.classes), devices, seed)
        set_parameters(self.net, start, prefix="features")
        if len(start["output.0.bias"]) == len(task.classes) and stage.trains == "all":
            set_parameters(self.net, start, prefix="output")
        self._on_features = bool(stage.views)
        self.learning = self.net if stage.trains == "all" else self.net.output
        self._forward = self._compile()
        self._weights = class_weights(stage, task)
        self._loss = mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
        self._loss.hybridize()
        self.steps_done = 0
        self.trainer = self._make_trainer()

    def _compile(self) -> Callable[[Any], Any]:
        if self._on_features:
            return compile_network(_head(self.net))
        if self.stage.trains == "all":
            return compile_network(self.net)
        features, output = compile_network(self.net.features), compile_network(self.net.output)

        def forward(pictures: Any) -> Any:
            # the frozen part keeps its dropout, as in the notebook, but computes no gradients
            with mx.autograd.pause(train_mode=mx.autograd.is_training()):
                frozen = features(pictures)
            return output(frozen)

        return forward

    def _make_trainer(self) -> Any:
        options = {"learning_rate": self.stage.learning_rate, "begin_num_update": self.steps_done}
        collected = self.learning.collect_params()
        return mx.gluon.Trainer(collected, self.stage.optimizer, options, kvstore="device", update_on_kvstore=False)

    def _split(self, array: Any) -> list[Any]:
        return mx.gluon.utils.split_and_load(array, self.devices, even_split=False)

    def _targets(self, labels: NDArray[np.int64]) -> Any:
        """Smoothed one-hot labels times the class's weight, (n, classes): the loss is linear in them."""
        classes, smoothing = len(self.task.classes), self.stage.label_smoothing
        smoothed = np.eye(classes, dtype=np.float32)[labels] * (1 - smoothing) + smoothing / classes
        return mx.nd.array(smoothed * self._weights[labels, None])

    def step(self, batch: Batch, learning_rate: float) -> tuple[float, NDArray[np.float32]]:
        """Learn from one batch; returns its mean loss and the outputs (n, classes) it was computed from."""
        inputs, labels = batch
        parts = zip(self._split(inputs), self._split(self._targets(labels)), strict=True)
        losses, outputs = [], []
        with mx.autograd.record():
            for part, targets in parts:
                outputs.append(self._forward(part))
                losses.append(self._loss(outputs[-1], targets))
        mx.autograd.backward(losses)
        self.trainer.set_learning_rate(learning_rate)
        self.trainer.step(len(labels))
        self._decay(learning_rate * self.stage.weight_decay)
        self.steps_done += 1
        loss = float(np.concatenate([part.asnumpy() for part in losses]).mean())
        return loss, np.concatenate([output.asnumpy() for output in outputs])

    def _decay(self, share: float) -> None:
        if share:
            for name, parameter in self.learning._collect_params_with_prefix().items():
                if name.endswith("weight"):
                    for copy in parameter.list_data():
                        copy *= 1 - share

    def predict(self, batch: Batch) -> NDArray[np.float32]:
        """Outputs (n, classes) of one batch, without learning from it."""
        parts = self._split(batch[0])
        return np.concatenate([output.asnumpy() for output in [self._forward(part) for part in parts]])

    def optimizer_state(self) -> Arrays:
        """The optimizer's running averages, by parameter and position; equal on all devices."""
        states = self.trainer._updaters[0].states
        return {
            f"{index}.{place}": array.asnumpy()
            for index, state in states.items()
            for place, array in enumerate(_as_tuple(state))
        }

    def restore(self, state: TrainingState) -> None:
        """Go on from a state as if nothing had happened in between."""
        set_parameters(self.learning, state.current)
        self.steps_done = state.steps_done
        self.trainer = self._make_trainer()
        if not state.optimizer:
            return
        self.trainer._init_kvstore()
        for updater, device in zip(self.trainer._updaters, self.devices, strict=True):
            indices = sorted({int(key.partition(".")[0]) for key in state.optimizer})
            for index in indices:
                parts = [
                    state.optimizer[f"{index}.{place}"] for place in range(2) if f"{index}.{place}" in state.optimizer
                ]
                arrays = tuple(mx.nd.array(part, ctx=device) for part in parts)
                updater.states[index] = arrays if len(arrays) > 1 else arrays[0]
                updater.states_synced[index] = True


def _as_tuple(state: Any) -> tuple[Any, ...]:
    if state is None:
        return ()
    return state if isinstance(state, tuple) else (state,)


def _head(net: Network) -> Network:
    """The output block with a pooling that takes any height and width; it shares the block's parameters."""
    head = mx.gluon.nn.HybridSequential()
    head.add(net.output[0], net.output[1], mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Flatten())
    return head


def learning_rate(stage: Stage, progress: float) -> float:
    """The rate at ``progress`` 0…1 of a stage: rising during its warm-up, then constant or along half a cosine to 0.

    >>> round(learning_rate(Stage(schedule="cosine", learning_rate=0.2), 0.5), 3)
    0.1
    """
    rate = stage.learning_rate * min(1.0, progress / stage.warm_up if stage.warm_up else 1.0)
    return rate if stage.schedule == "constant" else rate * (1 + float(np.cos(np.pi * progress))) / 2


def _evaluate(learner: Learner, batches: Iterator[Batch]) -> dict[str, float]:
    confusion = np.zeros((len(learner.task.classes),) * 2, np.int64)
    lowest, highest = np.inf, -np.inf
    for batch in batches:
        outputs = learner.predict(batch)
        lowest, highest = min(lowest, outputs.min()), max(highest, outputs.max())
        confusion += confusion_matrix(batch[1], outputs.argmax(1), len(confusion))
    if lowest == highest:
        logger.warning("the output is dead: it is %g for every picture and cannot learn any more", lowest)
    return scores(confusion, learner.task.positive)


def _train_epoch(learner: Learner, batches: Batches, epoch: int, advance: Callable[[int], None]) -> dict[str, float]:
    """One pass over the training batches; returns the mean loss and the metrics while learning."""
    stage, total = learner.stage, batches.steps_per_epoch
    confusion, losses = np.zeros((len(learner.task.classes),) * 2, np.int64), []
    for number, batch in enumerate(batches.training(epoch)):
        rate = learning_rate(stage, (epoch - 1 + number / total) / stage.epochs)
        loss, outputs = learner.step(batch, rate)
        if not np.isfinite(loss):
            raise UserError(
                f"The loss became {loss} in epoch {epoch}, batch {number}: "
                f"lower the learning rate of {stage.learning_rate:g}."
            )
        losses.append(loss)
        confusion += confusion_matrix(batch[1], outputs.argmax(1), len(confusion))
        advance(1)
    return {"loss": float(np.mean(losses)), **scores(confusion, learner.task.positive)}


def _describe(learner: Learner, batches: Batches, epoch: int, training: dict[str, float]) -> Epoch:
    validation = _evaluate(learner, batches.validation())
    measured = {f"train_{name}": value for name, value in training.items()}
    measured |= {f"validation_{name}": value for name, value in validation.items()}
    told = (f"{name.replace('_', ' ')} {value:.3f}" for name, value in measured.items() if name.endswith(_TOLD))
    logger.info("epoch %d: %s", epoch, ", ".join(told))
    return {"epoch": epoch, **measured}


def _record(state: TrainingState, learner: Learner, row: Epoch) -> None:
    """Bring a state up to date after an epoch."""
    state.current, state.optimizer = parameters(learner.learning), learner.optimizer_state()
    if row["validation_f1"] > max(earlier["validation_f1"] for earlier in state.history):
        state.best = state.current
    state.history.append(row)
    state.epochs_done, state.steps_done = state.epochs_done + 1, learner.steps_done


def train_stage(
    stage: Stage,
    task: Task,
    batches: Batches,
    start: Checkpoint,
    devices: Sequence[Device],
    seed: int,
    state_file: Path,
) -> Checkpoint:
    """Train for ``stage.epochs`` epochs and keep the epoch with the best validation F1, the first of equals.

    After each epoch ``state_file`` is replaced; if it is there already, training goes on from it and ends with the
    same parameters as if it had never stopped. A stage that never beats its start gives the start's parameters.

    Args:
        start: the pretrained network, or an earlier stage's checkpoint.

    Raises:
        UserError: the loss became infinite or NaN.
    """
    learner = Learner(stage, task, start.parameters, devices, seed)
    state = load_state(state_file)
    if state:
        logger.info("going on after epoch %d of %d", state.epochs_done, stage.epochs)
        learner.restore(state)
    else:
        first = _describe(learner, batches, 0, {})
        state = TrainingState(parameters(learner.learning), {}, parameters(learner.learning), [first])
    with progress_bar(f"training {stage.trains}", stage.epochs * batches.steps_per_epoch, "batch") as advance:
        advance(state.epochs_done * batches.steps_per_epoch)
        for epoch in range(state.epochs_done + 1, stage.epochs + 1):
            mx.random.seed(seed * 1000 + epoch)  # dropout depends on the epoch only, so a resumed one agrees
            training = _train_epoch(learner, batches, epoch, advance)
            _record(state, learner, _describe(learner, batches, epoch, training))
            save_state(state_file, state)
    set_parameters(learner.learning, state.best)
    number = 1 + max((int(epoch["stage"]) for epoch in start.history), default=0)
    history = (*start.history, *({"stage": number, **row} for row in state.history))
    return Checkpoint(parameters(learner.net), history)
