"""The training loop, one for every network: epochs, learning rate, the best epoch, resuming after a kill."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cnn.networks.running import parameters, set_parameters
from cnn.support.backend import mx
from cnn.support.errors import UserError
from cnn.support.files import text_digest
from cnn.support.progress import progress_bar
from cnn.training.batches import Batch, Batches
from cnn.training.checkpoints import Arrays, Epoch, Timing, TrainingState, load_state, save_state
from cnn.training.hyperparameters import Training
from cnn.training.learner import Learner
from cnn.training.metrics import confusion_matrix, scores

logger = logging.getLogger(__name__)

_LOGGED = ("loss", "accuracy", "f1")  # of the metrics of an epoch
_SMOOTHING, _BATCHES_BETWEEN_LOSSES = 0.01, 200  # the notebook's moving loss, and how often it prints it


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
        logger.warning("the output is dead: it is %g for every image and cannot learn any more", lowest)
    return scores(confusion, learner.classes.positive).model_dump()


def _train_epoch(
    learner: Learner, batches: Batches, epoch: int, moving_loss: float | None, advance: Callable[[int], None]
) -> tuple[dict[str, float], Timing]:
    """One pass over the training batches; returns losses and metrics during it, and the time it took."""
    settings, total, name = learner.settings, batches.steps_per_epoch, learner.settings.name
    begin, in_network = time.monotonic(), 0.0
    confusion, losses = np.zeros((len(learner.classes.names),) * 2, np.int64), []
    for number, batch in enumerate(batches.training(epoch)):
        rate = learning_rate(settings, (epoch - 1 + number / total) / settings.epochs)
        step_begin = time.monotonic()
        loss, outputs = learner.step(batch, rate)
        in_network += time.monotonic() - step_begin
        if not np.isfinite(loss):
            raise UserError(
                f"training {name}: the loss became {loss} in epoch {epoch}, batch {number}: "
                f"lower its learning rate of {settings.learning_rate:g} in cnn/training/recipes.py, "
                "or choose another recipe."
            )
        losses.append(loss)
        moving_loss = loss if moving_loss is None else (1 - _SMOOTHING) * moving_loss + _SMOOTHING * loss
        if number and number % _BATCHES_BETWEEN_LOSSES == 0:
            logger.info("%s: epoch %d, batch %d: loss %f", name, epoch, number, moving_loss)
        confusion += confusion_matrix(batch[1], outputs.argmax(1), len(confusion))
        advance(1)
    seconds = time.monotonic() - begin
    measured = {"loss": float(np.mean(losses)), **scores(confusion, learner.classes.positive).model_dump()}
    timing = {"training_seconds": seconds, "outside_network": 1 - in_network / seconds}
    return measured | {"moving_loss": moving_loss or 0.0}, timing


def _evaluate_epoch(learner: Learner, batches: Batches, epoch: int, training: dict[str, float]) -> Epoch:
    """A row of the history: metrics of training images (where there has been any training) and validation images."""
    if training and learner.settings.remeasure:
        training |= _evaluate(learner, batches.evaluation("train"))
    validation = _evaluate(learner, batches.evaluation("validation"))
    measured = {f"train_{name}": value for name, value in training.items()}
    measured |= {f"validation_{name}": value for name, value in validation.items()}
    logger.info("%s: epoch %d: %s", learner.settings.name, epoch, _describe(measured))
    return {"epoch": epoch, **measured}


def _describe(measured: dict[str, float]) -> str:
    """The metrics that are logged, in words."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}" for name, value in measured.items() if name.endswith(_LOGGED)
    )


def best_epoch(settings: Training, history: Sequence[Epoch]) -> int:
    """Row of the epoch to keep: the best validation metric that the settings name, the last of equals.

    >>> rows = [{"validation_f1": 0.5}, {"validation_f1": 0.7}, {"validation_f1": 0.7}]
    >>> best_epoch(Training(chosen_by="f1"), rows)
    2
    """
    values = [row[f"validation_{settings.chosen_by}"] for row in history]
    return max(range(len(values)), key=lambda number: (values[number], number))


def _update(state: TrainingState, learner: Learner, row: Epoch, timing: Timing) -> None:
    """Bring a state up to date after an epoch."""
    learner.share()
    state.current, state.optimizer = parameters(learner.model.learning), learner.optimizer_state()
    state.history.append(row)
    state.timings.append(timing)
    if best_epoch(learner.settings, state.history) == len(state.history) - 1:
        state.best = state.current
    state.epochs_done, state.steps_done = state.epochs_done + 1, learner.steps_done


def _require_same_start(learner: Learner, start: tuple[int, int]) -> None:
    """Give all workers the same parameters, if they are after the same epoch of as many batches, by one recipe."""
    workers, settings = learner.workers, int(text_digest(learner.settings.model_dump_json())[:5], 16)
    starts = workers.gather(np.array([(*start, settings)], np.float32), workers.count).astype(int)
    if (starts != starts[0]).any():
        found = ", ".join(f"settings {number:x}, {steps} batches, after epoch {done}" for done, steps, number in starts)
        raise UserError(
            f"training {learner.settings.name}: expected all workers to begin with the same settings and data after "
            f"the same epoch, found {found}: run the same command with one --store, and one "
            "PREFECT_LOCAL_STORAGE_PATH, on all machines."
        )
    learner.share()


def _train_remaining(learner: Learner, batches: Batches, state: TrainingState, seed: int, state_file: Path) -> None:
    """Train the epochs that are left, and save the state after each in ``state_file``."""
    epochs = learner.settings.epochs
    with progress_bar(f"training {learner.settings.name}", epochs * batches.steps_per_epoch, "batch") as advance:
        advance(state.epochs_done * batches.steps_per_epoch)
        for epoch in range(state.epochs_done + 1, epochs + 1):
            begin = time.monotonic()
            for context in learner.contexts:  # dropout depends on the epoch only, so a resumed one agrees
                mx.random.seed(seed * 1000 + epoch, ctx=context)
            moving_loss = state.history[-1].get("train_moving_loss")
            training, timing = _train_epoch(learner, batches, epoch, moving_loss, advance)
            row = _evaluate_epoch(learner, batches, epoch, training)
            _update(state, learner, row, {"seconds": time.monotonic() - begin, **timing})
            if learner.workers.leads:
                save_state(state_file, state)


def train(
    learner: Learner, batches: Batches, *, seed: int, state_file: Path
) -> tuple[Arrays, list[Epoch], list[Timing], int]:
    """Train for the settings' epochs and keep the best one on validation, the last of equals.

    After each epoch ``state_file`` is replaced; if it is there already, training resumes from it and ends with the
    same parameters as if it had never stopped. A training that only gets worse keeps what it started from.

    Returns:
        The whole network's parameters, the history and the timings (row 0: before training), and the row kept.

    Raises:
        UserError: the loss became infinite or NaN, or the workers do not begin with the same.
    """
    learning, settings = learner.model.learning, learner.settings
    state = load_state(state_file)
    if state:
        logger.info("%s: resuming after epoch %d of %d", settings.name, state.epochs_done, settings.epochs)
        learner.restore(state)
    _require_same_start(learner, (state.epochs_done if state else 0, batches.steps_per_epoch))
    if not state:
        first = _evaluate_epoch(learner, batches, 0, {})
        state = TrainingState(parameters(learning), {}, parameters(learning), [first], [{"seconds": 0.0}])
    _train_remaining(learner, batches, state, seed, state_file)
    set_parameters(learning, state.best)
    return parameters(learner.model.net), state.history, state.timings, best_epoch(settings, state.history)
