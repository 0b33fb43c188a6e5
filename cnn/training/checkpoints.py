"""Checkpoints: parameters with the history of their training, written whole or not at all. Nothing is pickled."""

import errno
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from cnn.networks.architectures import PRETRAINED, NetworkConfig
from cnn.networks.weights import read_weights
from cnn.support.files import atomic_file

logger = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]
#: One epoch: its number (0: before training), loss, and metrics of training and validation images.
Epoch = dict[str, float]
#: What an epoch took: ``seconds`` in all, ``training_seconds`` without the evaluation after it, and the share of the
#: latter spent ``outside_network``. Kept apart, because it differs where all else is the same.
Timing = dict[str, float]
#: What JSON can hold.
Facts = dict[str, Any]

_SOLVED = ("path", "strength", "learning_curve")  # of a checkpoint, where its head was solved
_PARAMETERS, _TIMINGS = "checkpoint.npz", "timings.json"
_TIMINGS_TYPE = TypeAdapter(tuple[Timing, ...])
_UNKNOWN: Timing = dict.fromkeys(("seconds", "training_seconds", "outside_network"), float("nan"))


@dataclass(frozen=True)
class Checkpoint:
    """A network: what it is, its parameters by structural name, and the epochs that led to them.

    If its head was solved (`cnn.training.head`), it says how that went, too.
    """

    network: NetworkConfig
    classes: tuple[str, ...]
    parameters: Arrays
    history: tuple[Epoch, ...] = ()
    timings: tuple[Timing, ...] = ()
    #: which row of the history the parameters are of
    kept: int = 0
    #: the strengths that were tried, each with ``strength``, ``log_loss``, ``log_loss_error`` and ``confusion``
    path: tuple[Facts, ...] = ()
    #: the one that was chosen
    strength: float | None = None
    #: what the head is worth if it is solved from fewer images: ``images`` and ``confusion``
    learning_curve: tuple[Facts, ...] = ()
    #: ``ids`` (n,) of images and ``probabilities`` (n, classes) of each by a head that was solved without it
    held_out: Arrays = field(default_factory=dict)


@dataclass
class TrainingState:
    """Everything a stage needs to resume after ``epochs_done`` as if it had never stopped."""

    current: Arrays
    optimizer: Arrays
    best: Arrays
    history: list[Epoch] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    epochs_done: int = 0
    steps_done: int = 0


def pretrained(path: str | Path, network: NetworkConfig = PRETRAINED) -> Checkpoint:
    """A network as a file of pretrained weights has it: a checkpoint without a history.

    Raises:
        UserError: the file cannot be read or does not hold the network's parameters.
    """
    return Checkpoint(network, (), read_weights(Path(path), network.architecture))


def _save(path: Path, groups: dict[str, Arrays], facts: dict[str, Any]) -> None:
    arrays = {f"{group}/{name}": array for group, members in groups.items() for name, array in members.items()}
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, facts=np.array(json.dumps(facts)), **arrays)


def _load(path: Path) -> tuple[dict[str, Arrays], dict[str, Any]]:
    groups: dict[str, Arrays] = {}
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            if "/" in key:
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = archive[key]
        return groups, json.loads(str(archive["facts"]))


def save_parameters(path: Path, parameters: Arrays) -> None:
    """Write parameters alone, as a plain ``.npz``."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **parameters)


def checkpoint_file(folder: Path) -> Path:
    """The file of a checkpoint's folder whose bytes are the same whenever parameters and history are."""
    return folder / _PARAMETERS


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into a folder; timings have a file of their own, see `checkpoint_file`."""
    with atomic_file(folder / _TIMINGS) as temporary:
        temporary.write_text(json.dumps(checkpoint.timings), encoding="utf-8")
    facts = {
        "network": checkpoint.network.model_dump(mode="json"),
        "classes": checkpoint.classes,
        "history": checkpoint.history,
        "kept": checkpoint.kept,
    }
    if checkpoint.path:
        facts |= {name: getattr(checkpoint, name) for name in _SOLVED}
    _save(checkpoint_file(folder), {"parameters": checkpoint.parameters, "held_out": checkpoint.held_out}, facts)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote; timings that are lost or damaged, which is logged, are not a number."""
    groups, facts = _load(checkpoint_file(folder))
    return Checkpoint(
        network=NetworkConfig(**facts["network"]),
        classes=tuple(facts["classes"]),
        parameters=groups["parameters"],
        history=tuple(facts["history"]),
        timings=_load_timings(folder / _TIMINGS, len(facts["history"])),
        kept=facts["kept"],
        path=tuple(facts.get("path", ())),
        strength=facts.get("strength"),
        learning_curve=tuple(facts.get("learning_curve", ())),
        held_out=groups.get("held_out", {}),
    )


def _load_timings(path: Path, epochs: int) -> tuple[Timing, ...]:
    try:
        timings = _TIMINGS_TYPE.validate_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        timings = ()
    if len(timings) == epochs:
        return timings
    logger.warning("%s: missing or damaged, so it is unknown how long each epoch took", path)
    return (_UNKNOWN,) * epochs


def save_state(path: Path, state: TrainingState) -> None:
    """Write a training state, replacing the earlier one in a single step."""
    groups = {"current": state.current, "optimizer": state.optimizer, "best": state.best}
    facts = {name: getattr(state, name) for name in ("history", "timings", "epochs_done", "steps_done")}
    _save(path, groups, facts | {"arrays": _names(groups)})


def _names(groups: dict[str, Arrays]) -> list[str]:
    return sorted(f"{group}/{name}" for group, arrays in groups.items() for name in arrays)


def load_state(path: Path) -> TrainingState | None:
    """Read what `save_state` wrote; None if there is nothing, or nothing whole, which is logged.

    Raises:
        OSError, MemoryError: the machine, and not the file, is the cause.
    """
    try:
        groups, facts = _load(path)
        if facts.pop("arrays") != _names(groups):
            raise ValueError("arrays are missing")
        return TrainingState(groups["current"], groups.get("optimizer", {}), groups["best"], **facts)
    except FileNotFoundError:
        return None
    except MemoryError:
        raise
    except Exception as error:  # numpy and zipfile raise a dozen types for damaged files
        # the system's; those of numpy have no number, and a damaged zip leads to places that are none
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        logger.warning("%s: the training state cannot be read (%s), so the training starts anew", path, error)
        return None
