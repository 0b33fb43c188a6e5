"""Runners: where the shards of a step run: here, one after the other, or in the processes of a Dask cluster.

A state alone is not trusted: of a task whose worker died, Dask runs it again elsewhere, and Prefect may call it running
for ever. What counts is that its result is here and intact; if it is not, the shard is submitted again. By its content
it comes from the cache if it had been done.
"""

import ipaddress
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture, as_completed
from prefect.settings import PREFECT_API_URL
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from cnn.support.errors import UserError
from cnn.support.parallel import physical_cores
from cnn.support.progress import cancel_together, progress_bar
from cnn.support.references import Reference
from tasks.steps import measured

#: How often a shard is submitted; Dask gives each of these to four workers, should they die of it.
_ATTEMPTS = 3
_TIMEOUT_SECONDS = 5
_DASK = "dask"

_runner: ContextVar[TaskRunner[Any]] = ContextVar("runner")


@contextmanager
def running_on(runner: str) -> Iterator[None]:
    """Let `run_shards` submit to this runner inside the block; what it starts ends with the block.

    Args:
        runner: ``threads``, ``dask`` for a process on each core of this machine, or ``dask:`` and the address of a
            scheduler. The processes of Dask are started with the first shard.
    """
    with _task_runner(runner) as started:
        token = _runner.set(started)
        try:
            yield
        finally:
            _runner.reset(token)


def _task_runner(runner: str) -> TaskRunner[Any]:
    if not runner.startswith(_DASK):
        return ThreadPoolTaskRunner(max_workers=1)  # a shard computes on all cores
    from prefect_dask import DaskTaskRunner  # slow, and not everybody has it

    logging.getLogger("distributed").setLevel(logging.WARNING)
    if address := runner.partition(":")[2]:
        return DaskTaskRunner(address=address)
    with get_client(sync_client=True) as client:  # the embedded server, too, is to be one for all processes
        environment = {"PREFECT_API_URL": str(client.api_url), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    cluster = {"n_workers": physical_cores(), "threads_per_worker": 1, "dashboard_address": ":0", "security": True}
    return DaskTaskRunner(cluster_kwargs=cluster | {"env": environment})


def require_runner(runner: str) -> None:
    """Refuse a runner that cannot be used, within seconds.

    Raises:
        UserError: what it needs is not installed, nobody answers at its address, or its workers cannot reach Prefect.
    """
    if not runner.startswith(_DASK):
        return
    if not find_spec("prefect_dask"):
        raise UserError(f"runner {runner}: prefect-dask is not installed: install requirements/scale.txt.")
    if address := runner.partition(":")[2]:
        _require_shared_server(runner, address)
        _require_scheduler(runner, address)


def _require_shared_server(runner: str, address: str) -> None:
    """Refuse a Prefect server that is this process's or this machine's own, if the workers may be on others."""
    server = PREFECT_API_URL.value()
    if not server:
        found = "it is not set"
    elif _is_local(server) and not _is_local(address):
        found = f"{server} is this machine alone"
    else:
        return
    raise UserError(
        f"runner {runner}: its workers report to a Prefect server: expected its address in PREFECT_API_URL, {found}: "
        "start one with prefect server start --host 0.0.0.0, and set PREFECT_API_URL to http://THIS_MACHINE:4200/api."
    )


def _is_local(address: str) -> bool:
    """Whether an address leads to the machine itself, from whichever machine.

    >>> _is_local("http://127.0.0.1:4200/api"), _is_local("tcp://10.0.0.1:8786"), _is_local("localhost:8786")
    (True, False, True)
    """
    host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_scheduler(runner: str, address: str) -> None:
    from distributed import Client

    try:
        with Client(address, timeout=_TIMEOUT_SECONDS, set_as_default=False) as client:
            workers = client.scheduler_info()["workers"]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"runner {runner}: expected the address of a Dask scheduler, such as dask:tcp://10.0.0.1:8786; nobody "
            f"answers there as one ({str(error).splitlines()[0]}): check the address, and that the scheduler runs."
        ) from error
    if not workers:
        raise UserError(f"runner {runner}: the scheduler has no workers: start some, see docs/cluster.md.")


def run_shards(task: Task[..., Reference], shards: Sequence[Mapping[str, Any]], description: str) -> list[Reference]:
    """The results of a task for each shard's inputs, in the order of the shards.

    Raises:
        UserError: a shard failed with it, or could not be done in spite of several attempts.
    """
    results: dict[int, Reference] = {}
    with (
        cancel_together(),
        measured(),  # the shards' seconds are those of the step that they belong to
        progress_bar(description, len(shards), "shard") as advance,
    ):
        for _ in range(_ATTEMPTS):
            submitted = {
                _submit(task, dict(inputs)): number for number, inputs in enumerate(shards) if number not in results
            }
            for future in as_completed(list(submitted)):
                if (result := _result(future)) and result.is_intact():
                    results[submitted[future]] = result
                    advance(1)
            if len(results) == len(shards):
                return [results[number] for number in range(len(shards))]
    number = min(set(range(len(shards))) - set(results))
    raise UserError(
        f"{task.name} {number + 1} of {len(shards)}: its workers died, or what they wrote is not here: expected that "
        "each has enough memory and finds the store at the same path as this machine; see docs/cluster.md."
    )


def _submit(task: Task[..., Reference], inputs: dict[str, Any]) -> PrefectFuture[Reference]:
    try:
        return _runner.get().submit(task, inputs)
    except Exception as error:
        if not _is_loss(error):
            raise
        raise UserError(
            "The Dask scheduler is gone: start it and its workers, then run the same command again: it continues."
        ) from error


def _result(future: PrefectFuture[Reference]) -> Reference | None:
    """What a task gave; None if it was lost with its worker.

    Raises:
        Exception: the task failed with it.
    """
    try:
        result = future.result(raise_on_failure=False)
    except Exception as error:
        if _is_loss(error):
            return None
        raise
    finally:
        if release := getattr(getattr(future, "wrapped_future", None), "release", None):
            release()  # otherwise Dask would run it again when its worker dies later
    if future.state.is_crashed():
        return None
    if isinstance(result, BaseException):
        raise result
    return result


def _is_loss(error: Exception) -> bool:
    """Whether an error says that a worker or the connection to it was lost, and nothing of the task."""
    return isinstance(error, OSError | CancelledError) or type(error).__module__.startswith("distributed.")
