"""Parameters with their training's history in one file, written whole or not at all. Nothing is pickled."""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.files import atomic_file

Arrays = dict[str, NDArray[Any]]
#: One epoch: its number (0: before training), loss, and metrics on training and validation pictures.
Epoch = dict[str, float]
#: What an epoch took: ``seconds`` in all, ``training_seconds`` without the evaluation behind it, and which share of
#: the latter passed ``outside_network``. Kept apart, because it differs where all else is the same.
Timing = dict[str, float]


@dataclass(frozen=True)
class Checkpoint:
    """The whole network's parameters by structural name, and the epochs of all stages that led to them."""

    parameters: Arrays
    history: tuple[Epoch, ...] = ()
    timings: tuple[Timing, ...] = ()
    #: which row of the history the parameters are of
    kept: int = 0


@dataclass
class TrainingState:
    """Everything a stage needs to go on after ``epochs_done`` as if it had never stopped."""

    current: Arrays
    optimizer: Arrays
    best: Arrays
    history: list[Epoch] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    epochs_done: int = 0
    steps_done: int = 0


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


def timings_file(path: Path) -> Path:
    """Where the timings of the checkpoint at ``path`` lie."""
    return path.with_suffix(".timings.json")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the same parameters and history give the same bytes, as timings lie in a file beside it."""
    with atomic_file(timings_file(path)) as temporary:
        temporary.write_text(json.dumps(checkpoint.timings))
    _save(path, {"parameters": checkpoint.parameters}, {"history": checkpoint.history, "kept": checkpoint.kept})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote."""
    groups, facts = _load(path)
    return Checkpoint(groups["parameters"], tuple(facts["history"]), load_timings(path), facts["kept"])


def load_timings(path: Path) -> tuple[Timing, ...]:
    """What each row of the history of the checkpoint at ``path`` took."""
    return tuple(json.loads(timings_file(path).read_text()))


def save_state(path: Path, state: TrainingState) -> None:
    """Write a training state, replacing the earlier one in a single step."""
    groups = {"current": state.current, "optimizer": state.optimizer, "best": state.best}
    facts = {name: getattr(state, name) for name in ("history", "timings", "epochs_done", "steps_done")}
    _save(path, groups, facts)


def load_state(path: Path) -> TrainingState | None:
    """Read what `save_state` wrote; None if there is nothing, or nothing whole."""
    try:
        groups, facts = _load(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return TrainingState(groups["current"], groups.get("optimizer", {}), groups["best"], **facts)
