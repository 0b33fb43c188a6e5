"""The training loop, one for every network, that a kill cannot make start over."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cnn.backend import mx
from cnn.batches import Batch, Batches
from cnn.checkpoints import Checkpoint, Epoch, Timing, TrainingState, load_state, save_state
from cnn.errors import UserError
from cnn.hyperparameters import Training
from cnn.learner import Learner
from cnn.metrics import confusion_matrix, scores
from cnn.networks import parameters, set_parameters
from cnn.progress import progress_bar

logger = logging.getLogger(__name__)

_TOLD = ("loss", "accuracy", "f1")  # of the metrics of an epoch, what the log says
_SMOOTHING, _BATCHES_BETWEEN_LOSSES = 0.01, 200  # the notebook's moving loss, and how often it is told


def learning_rate(settings: Training, progress: float) -> float:
    """The rate at ``progress`` 0…1 of a training: rising during its warm-up, then as its schedule says.

    ``cosine`` is half a cosine over the whole training, ``linear`` falls from the warm-up's end; both end at 0.

    >>> round(learning_rate(Training(schedule="cosine", learning_rate=0.2), 0.5), 3)
    0.1
    """
    peak, warm_up = settings.learning_rate, settings.warm_up
    rate = peak * min(1.0, progress / warm_up if warm_up else 1.0)
    if settings.schedule == "cosine":
        return rate * (1 + float(np.cos(np.pi * progress))) / 2
    if settings.schedule == "linear" and progress > warm_up:
        return peak * (1 - progress) / (1 - warm_up)
    return rate


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


def _train_epoch(
    learner: Learner, batches: Batches, epoch: int, moving_loss: float | None, advance: Callable[[int], None]
) -> tuple[dict[str, float], Timing]:
    """One pass over the training batches; returns the losses and metrics while learning, and what time it took."""
    settings, total = learner.settings, batches.steps_per_epoch
    begin, in_network = time.monotonic(), 0.0
    confusion, losses = np.zeros((len(learner.classes.names),) * 2, np.int64), []
    for number, batch in enumerate(batches.training(epoch)):
        rate = learning_rate(settings, (epoch - 1 + number / total) / settings.epochs)
        step_begin = time.monotonic()
        loss, outputs = learner.step(batch, rate)
        in_network += time.monotonic() - step_begin
        if not np.isfinite(loss):
            raise UserError(
                f"training {learner.model.name}: the loss became {loss} in epoch {epoch}, batch {number}: "
                f"lower its learning rate of {settings.learning_rate:g} in cnn/recipes.py, or choose another --recipe."
            )
        losses.append(loss)
        moving_loss = loss if moving_loss is None else (1 - _SMOOTHING) * moving_loss + _SMOOTHING * loss
        if number and number % _BATCHES_BETWEEN_LOSSES == 0:
            logger.info("%s: epoch %d, batch %d: loss %f", learner.model.name, epoch, number, moving_loss)
        confusion += confusion_matrix(batch[1], outputs.argmax(1), len(confusion))
        advance(1)
    seconds = time.monotonic() - begin
    learnt = {"loss": float(np.mean(losses)), **scores(confusion, learner.classes.positive)}
    timing = {"training_seconds": seconds, "outside_network": 1 - in_network / seconds}
    return learnt | {"moving_loss": moving_loss or 0.0}, timing


def _describe(learner: Learner, batches: Batches, epoch: int, training: dict[str, float]) -> Epoch:
    """What an epoch came to: metrics on training (where there has been any) and validation pictures."""
    if training and learner.settings.remeasure:
        training |= _evaluate(learner, batches.evaluation("train"))
    validation = _evaluate(learner, batches.evaluation("validation"))
    measured = {f"train_{name}": value for name, value in training.items()}
    measured |= {f"validation_{name}": value for name, value in validation.items()}
    told = (f"{name.replace('_', ' ')} {value:.3f}" for name, value in measured.items() if name.endswith(_TOLD))
    logger.info("%s: epoch %d: %s", learner.model.name, epoch, ", ".join(told))
    return {"epoch": epoch, **measured}


def _best_epoch(settings: Training, history: Sequence[Epoch]) -> int:
    """Number of the epoch to keep, the last of equals."""
    figures = [row[f"validation_{settings.chosen_by}"] for row in history]
    return max(range(len(figures)), key=lambda number: (figures[number], number))


def _record(state: TrainingState, learner: Learner, row: Epoch, timing: Timing) -> None:
    """Bring a state up to date after an epoch."""
    state.current, state.optimizer = parameters(learner.model.learning), learner.optimizer_state()
    state.history.append(row)
    state.timings.append(timing)
    if _best_epoch(learner.settings, state.history) == len(state.history) - 1:
        state.best = state.current
    state.epochs_done, state.steps_done = state.epochs_done + 1, learner.steps_done


def _go_on(learner: Learner, batches: Batches, state: TrainingState, seed: int, state_file: Path) -> None:
    """Train the epochs that are left, and keep each in ``state_file``."""
    epochs, name = learner.settings.epochs, learner.model.name
    with progress_bar(f"training {name}", epochs * batches.steps_per_epoch, "batch") as advance:
        advance(state.epochs_done * batches.steps_per_epoch)
        for epoch in range(state.epochs_done + 1, epochs + 1):
            begin = time.monotonic()
            for device in learner.devices:  # dropout depends on the epoch only, so a resumed one agrees
                mx.random.seed(seed * 1000 + epoch, ctx=device)
            moving_loss = state.history[-1].get("train_moving_loss")
            learnt, timing = _train_epoch(learner, batches, epoch, moving_loss, advance)
            row = _describe(learner, batches, epoch, learnt)
            _record(state, learner, row, {"seconds": time.monotonic() - begin, **timing})
            save_state(state_file, state)


def train(
    learner: Learner, batches: Batches, seed: int, state_file: Path, earlier: Checkpoint | None = None
) -> Checkpoint:
    """Train for the settings' epochs and keep the best one on validation, the last of equals.

    After each epoch ``state_file`` is replaced; if it is there already, training goes on from it and ends with the
    same parameters as if it had never stopped. A training that only does worse than its start gives the start's.

    Args:
        earlier: the checkpoint of the stage before, from which the learner starts; its history is gone on with.

    Raises:
        UserError: the loss became infinite or NaN.
    """
    learning = learner.model.learning
    state = load_state(state_file)
    if state:
        logger.info("%s: going on after epoch %d of %d", learner.model.name, state.epochs_done, learner.settings.epochs)
        learner.restore(state)
    else:
        first = _describe(learner, batches, 0, {})
        state = TrainingState(parameters(learning), {}, parameters(learning), [first], [{"seconds": 0.0}])
    _go_on(learner, batches, state, seed, state_file)
    set_parameters(learning, state.best)
    earlier = earlier or Checkpoint({})
    number = 1 + max((int(epoch["stage"]) for epoch in earlier.history), default=0)
    history = (*earlier.history, *({"stage": number, **row} for row in state.history))
    kept = len(earlier.history) + _best_epoch(learner.settings, state.history)
    return Checkpoint(parameters(learner.model.net), history, (*earlier.timings, *state.timings), kept)
