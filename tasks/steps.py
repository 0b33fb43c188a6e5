"""What makes a function a step of the pipeline: cached while its files are intact, watched, and plain in its errors."""

import ast
import errno
import functools
import importlib.util
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from prefect import Task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import CachePolicy
from prefect.client.schemas import TaskRun
from prefect.context import TaskRunContext
from prefect.runtime import task_run
from prefect.states import State
from pydantic import BaseModel

import cnn.architectures
from cnn.datasets import Dataset
from cnn.errors import PassingError, UserError
from cnn.files import Reference, text_digest
from cnn.hyperparameters import Design
from cnn.progress import observed_by

Result = TypeVar("Result", bound=Reference)
_OURS = ("cnn", "tasks")
_DISK_ERRORS = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


@functools.cache
def _source(name: str) -> tuple[str, frozenset[str]]:
    """A module's code without comments and docstrings, and which modules of ours it imports."""
    spec = importlib.util.find_spec(name)
    assert spec and spec.origin
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in _OURS:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= {n for n in names if _is_module(n)} | {node.module}
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            del body[0]
    return ast.dump(tree), frozenset(imported)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@functools.cache
def code_digest(module: str) -> str:
    """Digest of a module's code and of all modules of ours that it leads to; comments and docstrings do not count.

    Neither do the architectures, or to add one would train all others again: `identity` knows which one is meant.
    """
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in (*seen, cnn.architectures.__name__):
            seen[name], imported = _source(name)
            waiting += imported
    return text_digest(*(part for name in sorted(seen) for part in (name, seen[name])))


def identity(value: Any) -> str:
    """What of an input decides the result: a reference's kind and content but not its place; settings with network."""
    if isinstance(value, dict):
        return text_digest(*(part for name in value for part in (name, identity(value[name]))))
    if isinstance(value, Reference):
        return f"{value.kind} {value.digest}"
    if isinstance(value, Design):
        return text_digest(value.model_dump_json(), cnn.architectures.architecture_digest(value.architecture))
    return value.model_dump_json() if isinstance(value, BaseModel) else str(value)


def open_dataset(reference: Reference) -> Dataset:
    """The dataset that a reference is to, if that is still what lies there.

    Raises:
        UserError: it is not: another run with the same store has made it from other pictures meanwhile.
    """
    if not reference.is_intact():
        raise UserError(
            f"{reference.path} was replaced by another run that found other pictures, while this one worked with it: "
            "run the same command again."
        )
    return Dataset.open(reference.path)


class WhileIntact(CachePolicy):
    """Cached by inputs and code, for as long as the file or folder that the result refers to has its digest."""

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str:
        """The cache key; a cached result whose files are gone or altered is forgotten first."""
        fn = task_ctx.task.fn
        values = [part for name in sorted(inputs) for part in (name, identity(inputs[name]))]
        key = text_digest(fn.__qualname__, code_digest(fn.__module__), *values)
        store = task_ctx.result_store
        if store.exists(key):
            reference = store.read(key).result
            if not (isinstance(reference, Reference) and reference.is_intact()):
                place = getattr(reference, "path", key)
                logging.getLogger("cnn").info("%s is gone or was altered: making it again", place)
                assert store.result_storage
                store.result_storage.write_path(key, b"", _sync=True)  # type: ignore  # unreadable: it counts as missing
        return key


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what the operating system says of disks and permissions into a sentence."""
    try:
        yield
    except PermissionError as error:
        raise UserError(
            f"{error.filename} may not be read or written; change its permissions or name another."
        ) from error
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            place = f" at {error.filename}" if error.filename else ""
            raise UserError(
                f"Nothing more can be written{place}: {_DISK_ERRORS[error.errno]}; free some space and run the same "
                "command again, it goes on from here."
            ) from error
        if error.filename is None:
            raise
        raise UserError(f"{error.filename}: {error.strerror}; check the path.") from error


def artifact_key(*words: str) -> str:
    """Words as a key that Prefect takes for an artifact: the same words, the same key, run after run.

    >>> artifact_key("progress", "pack pixels of 32 px")
    'progress-pack-pixels-of-32-px'
    """
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


class _ProgressArtifact:
    """A progress bar in the Prefect UI, called after its task and made when there is first something to show."""

    def __init__(self) -> None:
        self._id: UUID | None = None

    def __call__(self, description: str, fraction: float) -> None:
        percent = round(100 * fraction, 1)
        try:
            if self._id is None:
                key = artifact_key("progress", task_run.get_name() or "")
                self._id = create_progress_artifact(percent, key, description)  # type: ignore[assignment]
            else:
                update_progress_artifact(self._id, percent, description=description)
        except Exception:  # a server that is away for a moment must not stop a training
            logging.getLogger("cnn").debug("progress could not be shown", exc_info=True)


def _may_pass(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Whether trying again can help: not against a wrong hash, a bad setting or a full disk."""
    return isinstance(state.result(raise_on_failure=False), PassingError)


def step(run_name: str | Callable[..., str]) -> Callable[[Callable[..., Result]], Task[..., Result]]:
    """Make a function that returns a `Reference` a cached Prefect task whose runs are called ``run_name``.

    ``run_name`` may hold the function's parameters in braces, or be a function of ``parameters``.
    """

    def decorate(function: Callable[..., Result]) -> Task[..., Result]:
        @functools.wraps(function)
        def guarded(*arguments: Any, **named: Any) -> Result:
            with _plain_errors(), observed_by(_ProgressArtifact()):
                return function(*arguments, **named)

        return Task(
            guarded,
            name=function.__name__.replace("_", " "),
            task_run_name=run_name,
            cache_policy=WhileIntact(),
            retry_condition_fn=_may_pass,  # how often and after how long is Prefect's setting, see prefect.yaml
            result_serializer="json",
            cache_result_in_memory=False,
        )

    return decorate


def _no_traceback(record: logging.LogRecord) -> bool:
    """Whether to log a record: not the traceback of a `UserError`, whose sentence is in the run's state already."""
    return not (record.exc_info and isinstance(record.exc_info[1], UserError))


for _name in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_no_traceback)
