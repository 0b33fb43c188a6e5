"""Caching: what decides whether a step runs or its result comes from the cache.

A key is made of the step's inputs by content, and of the code and the libraries that compute its result
(`cnn.support.fingerprint`). A cached result whose files are gone or altered counts as missing.
"""

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.cache_policies import CachePolicy
from prefect.context import FlowRunContext, TaskRunContext
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore
from pydantic import BaseModel

from cnn.data.images import Preprocessing
from cnn.networks.architectures import NetworkConfig, find_architecture
from cnn.support.backend import Devices
from cnn.support.errors import UserError
from cnn.support.files import text_digest
from cnn.support.fingerprint import PROJECT, fingerprint_function
from cnn.support.references import Reference
from cnn.support.remote import address_of, refresh, share
from cnn.support.store import keyed_folder
from tasks.gpus import Placement


def identity(value: Any) -> str:
    """What of an input decides the result: a reference's content and not its place; settings with their network's code.

    Raises:
        TypeError: the input is of a kind that no step has.

    >>> identity({"folds": 4}) == identity({"folds": 5})
    False
    """
    if isinstance(value, dict):
        return text_digest(*(part for name in value for part in (name, identity(value[name]))))
    if isinstance(value, list):
        return text_digest(*map(identity, value))
    if isinstance(value, Reference):
        return value.digest
    if isinstance(value, NetworkConfig):
        build = find_architecture(value.architecture).build
        return text_digest(value.model_dump_json(), fingerprint_function(build))
    if isinstance(value, Devices | Placement):
        return str(value)  # their kind and number: not which
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if isinstance(value, Path):
        return repr(address_of(value) or value)
    if isinstance(value, str | int | float | Preprocessing | None):
        return repr(value)
    raise TypeError(f"{value!r}: expected an input that a cache key can be made of, found {type(value).__name__}")


def references_in(value: Any) -> Iterator[Reference]:
    """All references in an input."""
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from references_in(each)


@dataclass(frozen=True)
class Call:
    """A step that is about to run: its function and inputs; those in ``unkeyed`` do not decide its result."""

    function: Callable[..., Any]
    inputs: dict[str, Any]
    unkeyed: tuple[str, ...] = ()

    @property
    def made_by(self) -> tuple[str, ...]:
        """The definitions of `cnn` that the function leads to."""
        return PROJECT.entries(f"{self.function.__module__}.{self.function.__qualname__}")

    def key(self, *names: str) -> str:
        """Digest of everything that decides the result; with ``names`` only of these inputs."""
        chosen = sorted(names or set(self.inputs) - set(self.unkeyed))
        values = (part for name in chosen for part in (name, identity(self.inputs[name])))
        return text_digest(self.function.__qualname__, PROJECT.fingerprint(*self.made_by), *values)


_current: ContextVar[Call] = ContextVar("current")


@contextmanager
def calling(call: Call) -> Iterator[None]:
    """Let `own_folder` know inside the block which step runs."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


def own_folder(store: Path, kind: str, *names: str) -> Path:
    """The folder of the store that belongs to the present step and its inputs; with ``names`` to these inputs only.

    A killed run finds there what it had saved, and nothing else ever writes there.
    """
    call = _current.get()
    inputs = [reference for name in names or call.inputs for reference in references_in(call.inputs[name])]
    return keyed_folder(store, kind, call.key(*names), call.made_by, inputs)


class WhileIntact(CachePolicy):
    """Cached by `Call.key`, as long as what the result refers to is intact."""

    function: Callable[..., Any]
    unkeyed: tuple[str, ...] = ()

    def __init__(self, function: Callable[..., Any], unkeyed: tuple[str, ...]) -> None:
        self.function, self.unkeyed = function, unkeyed

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str:
        """The cache key; a cached result whose files are gone or altered is discarded first.

        Raises:
            UserError: object storage cannot be asked. Prefect goes on without the cache then; `require_cache` does not.
        """
        _unanswered.set(None)
        try:
            return self._compute_key(Call(self.function, inputs, self.unkeyed).key(), task_ctx.result_store)
        except UserError as error:
            _unanswered.set(error)
            raise

    def _compute_key(self, key: str, store: ResultStore) -> str:
        if isinstance(store.result_storage, SharedResults):
            store.result_storage.look(key)
        if store.exists(key):
            reference = store.read(key).result
            if not (isinstance(reference, Reference) and reference.is_intact()):
                place = getattr(reference, "path", key)
                logging.getLogger("cnn").info("%s has changed or is gone: the step runs again", place)
                assert store.result_storage
                store.result_storage.write_path(key, b"", _sync=True)  # type: ignore  # unreadable: it counts as missing
        return key


_unanswered: ContextVar[UserError | None] = ContextVar("unanswered", default=None)


def require_cache() -> None:
    """Raise again what kept the present step's result from being looked up."""
    if error := _unanswered.get():
        raise error


class SharedResults(LocalFileSystem):
    """What steps came to, kept beside a store that has an address: another machine finds it there."""

    _block_type_name = "Shared results"

    def look(self, path: str) -> None:
        """Have a result here as it is there now; unlike Prefect, raise what object storage answers."""
        refresh(self._resolve_path(path))

    def read_path(self, path: str, _sync: bool = True) -> bytes:  # type: ignore[override]
        """A result, as it is there now; raises a ValueError if there is none."""
        self.look(path)
        return super().read_path(path, _sync=True)  # type: ignore[call-arg, return-value]

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> str:  # type: ignore[override]
        """Keep a result."""
        written = super().write_path(path, content, _sync=True)  # type: ignore[call-arg]
        share(self._resolve_path(path))
        return written  # type: ignore[return-value]


def share_results(store: Path) -> None:
    """Keep the results of the present flow run's steps in ``store``, if that has an address."""
    context = FlowRunContext.get()
    if context and address_of(store):
        context.result_store.result_storage = SharedResults(basepath=str(store / "results"))


def bind(function: Callable[..., Any], *arguments: Any, **named: Any) -> dict[str, Any]:
    """The inputs of a call by name, defaults too."""
    bound = _signature(function).bind(*arguments, **named)
    bound.apply_defaults()
    return bound.arguments


_signature = functools.cache(inspect.signature)
