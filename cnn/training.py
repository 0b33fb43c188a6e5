"""The training loop, one for every stage, that a kill cannot make start over."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cnn.backend import Device, mx
from cnn.batches import Batch, Batches
from cnn.checkpoints import Checkpoint, Epoch, TrainingState, load_state, save_state
from cnn.errors import UserError
from cnn.learner import Classes, Learner
from cnn.metrics import confusion_matrix, scores
from cnn.networks import parameters, set_parameters
from cnn.progress import progress_bar
from cnn.recipes import Stage

logger = logging.getLogger(__name__)

_TOLD = ("loss", "accuracy", "f1")  # of the metrics of an epoch, what the log says


def learning_rate(stage: Stage, progress: float) -> float:
    """The rate at ``progress`` 0…1 of a stage: rising during its warm-up, then constant or along half a cosine to 0.

    >>> round(learning_rate(Stage(schedule="cosine", learning_rate=0.2), 0.5), 3)
    0.1
    """
    rate = stage.learning_rate * min(1.0, progress / stage.warm_up if stage.warm_up else 1.0)
    return rate if stage.schedule == "constant" else rate * (1 + float(np.cos(np.pi * progress))) / 2


def _evaluate(learner: Learner, batches: Iterator[Batch]) -> dict[str, float]:
    confusion = np.zeros((len(learner.classes.names),) * 2, np.int64)
    lowest, highest = np.inf, -np.inf
    for batch in batches:
        outputs = learner.predict(batch)
        lowest, highest = min(lowest, outputs.min()), max(highest, outputs.max())
        confusion += confusion_matrix(batch[1], outputs.argmax(1), len(confusion))
    if lowest == highest and not learner.is_dead:
        learner.is_dead = True
        logger.warning("the output is dead: it is %g for every picture and cannot learn any more", lowest)
    return scores(confusion, learner.classes.positive)


def _train_epoch(learner: Learner, batches: Batches, epoch: int, advance: Callable[[int], None]) -> dict[str, float]:
    """One pass over the training batches; returns the mean loss and the metrics while learning."""
    stage, total = learner.stage, batches.steps_per_epoch
    confusion, losses = np.zeros((len(learner.classes.names),) * 2, np.int64), []
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
    return {"loss": float(np.mean(losses)), **scores(confusion, learner.classes.positive)}


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
    if row["validation_f1"] >= max(earlier["validation_f1"] for earlier in state.history):
        state.best = state.current
    state.history.append(row)
    state.epochs_done, state.steps_done = state.epochs_done + 1, learner.steps_done


def train_stage(
    stage: Stage,
    classes: Classes,
    batches: Batches,
    start: Checkpoint,
    devices: Sequence[Device],
    seed: int,
    state_file: Path,
) -> Checkpoint:
    """Train for ``stage.epochs`` epochs and keep the one with the best validation F1, the last of equals.

    After each epoch ``state_file`` is replaced; if it is there already, training goes on from it and ends with the
    same parameters as if it had never stopped. A stage that only does worse than its start gives the start's.

    Args:
        start: the pretrained network, or an earlier stage's checkpoint.

    Raises:
        UserError: the loss became infinite or NaN.
    """
    learner = Learner(stage, classes, start.parameters, devices, seed)
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
