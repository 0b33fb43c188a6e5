"""Steps: what makes a function a task of the pipeline. It is cached, shows its progress, and fails in plain words."""

import functools
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from uuid import UUID

from prefect import Task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas import TaskRun
from prefect.runtime import task_run
from prefect.states import State

from cnn.support.errors import TransientError, UserError, plain_errors
from cnn.support.memory import give_back
from cnn.support.progress import observed_by
from cnn.support.references import Reference
from tasks.caching import Call, WhileIntact, bind, calling, references_in, require_cache

Result = TypeVar("Result", bound=Reference)
_durations: ContextVar[dict[str, float]] = ContextVar("durations")


@contextmanager
def measured() -> Iterator[None]:
    """Let `durations` say inside the block how long its steps took."""
    token = _durations.set({})
    try:
        yield
    finally:
        _durations.reset(token)


def durations() -> dict[str, float]:
    """Seconds of the steps that ran so far, by the names of their runs; those from the cache are not among them."""
    return dict(_durations.get({}))


def _note(step: str, seconds: float) -> None:
    _durations.get({})[task_run.get_name() or step] = seconds


def artifact_key(*words: str) -> str:
    """Words as a key that Prefect takes for an artifact: the same words, the same key, run after run.

    >>> artifact_key("progress", "pack pixels of 32 px")
    'progress-pack-pixels-of-32-px'
    """
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


class _ProgressArtifact:
    """A progress bar in the Prefect UI, named after its task and made when there is first something to show."""

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


def _is_transient(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Whether a retry can succeed: not after a checksum mismatch, a bad setting or a full disk."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


class _Step(Task[..., Result]):
    """A task that another process finds by its name in its own code."""

    def __reduce__(self) -> str:
        return self.fn.__qualname__


def step(
    run_name: str, *, unkeyed: tuple[str, ...] = (), unread: tuple[str, ...] = ()
) -> Callable[[Callable[..., Result]], Task[..., Result]]:
    """Make a function that returns a `Reference` a cached Prefect task.

    Args:
        run_name: name of its runs; may hold the function's parameters in braces.
        unkeyed: names of parameters that do not decide the result.
        unread: names of parameters whose references are named and not read.
    """

    def decorate(function: Callable[..., Result]) -> Task[..., Result]:
        @functools.wraps(function)
        def guarded(*arguments: Any, **named: Any) -> Result:
            require_cache()
            call = Call(function, bind(function, *arguments, **named), unkeyed)
            begin = time.monotonic()
            with plain_errors(), observed_by(_ProgressArtifact()), calling(call):
                for reference in references_in({name: call.inputs[name] for name in set(call.inputs) - set(unread)}):
                    reference.fetch()
                result = function(*arguments, **named).shared()
            give_back()  # the next step may need it as memory of Arrow or Python, which have their own
            _note(function.__name__, time.monotonic() - begin)
            return result

        return _Step(
            guarded,
            name=function.__name__.replace("_", " "),
            task_run_name=run_name,
            cache_policy=WhileIntact(function, unkeyed),
            retry_condition_fn=_is_transient,  # how often and after how long is Prefect's setting, see prefect.yaml
            result_serializer="json",
            cache_result_in_memory=False,
        )

    return decorate


def _without_traceback(record: logging.LogRecord) -> bool:
    """Whether to log a record: not the traceback of a `UserError`, whose sentence is in the run's state already."""
    return not (record.exc_info and isinstance(record.exc_info[1], UserError))


for _name in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_without_traceback)
