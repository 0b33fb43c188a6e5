"""GPUs, each reserved for one training at a time."""

import fcntl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import httpx
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from pydantic import BaseModel, ConfigDict

from cnn.support.backend import Devices
from cnn.support.errors import TransientError, UserError
from cnn.support.progress import raise_if_cancelled

#: Name of the Prefect concurrency limit that holds across machines; where it does not exist, the locks alone hold.
LIMIT = "gpu"
_SECONDS_BETWEEN_TRIES = 1.0


class Placement(BaseModel):
    """Where a training runs: on all ``devices`` ``together``, or on the first of them that is free.

    Its text, which cache keys hold, says of what kind and how many they are: which ones makes no difference.

    >>> str(Placement(devices=Devices(kind="gpu", numbers=(0, 1)), together=False))
    '1 gpu'
    """

    model_config = ConfigDict(frozen=True)

    devices: Devices
    together: bool

    def __str__(self) -> str:
        return str(self.devices if self.together else Devices(kind=self.devices.kind))


def _lock(number: int) -> IO[str] | None:
    """An open file that keeps all processes of this machine off a GPU until it is closed; None if it is taken."""
    path = Path(tempfile.gettempdir()) / f"hotdog-pipeline-gpu-{number}.lock"
    if not path.exists():
        path.touch()
    file = path.open(encoding="utf-8")  # to read only: it may be another user's
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases it when the process dies
    except BlockingIOError:
        file.close()
        return None
    return file


def _take_free(numbers: tuple[int, ...]) -> tuple[int, IO[str]]:
    """The first GPU that is free, waiting until there is one, and its lock."""
    while True:
        for number in numbers:
            if lock := _lock(number):
                return number, lock
        raise_if_cancelled()
        time.sleep(_SECONDS_BETWEEN_TRIES)


@contextmanager
def reserved(placement: Placement) -> Iterator[Devices]:
    """Reserve the devices for one training; waits for GPUs in use.

    A GPU is reserved on this machine by a lock, and across the runs of a Prefect server by its concurrency limit
    `LIMIT`. A CPU is never reserved.

    Raises:
        TransientError: Prefect's server does not answer.
        UserError: more GPUs are asked for than the limit has.
    """
    devices, together = placement.devices, placement.together
    if devices.kind == "cpu":
        yield devices if together else Devices(numbers=devices.numbers[:1])
        return
    # one after the other in the order of their numbers, so that two trainings never wait for each other
    choices = [(number,) for number in sorted(devices.numbers)] if together else [devices.numbers]
    with ExitStack() as stack:
        taken = []
        for choice in choices:
            number, lock = _take_free(choice)
            stack.enter_context(lock)
            taken.append(number)
        try:
            stack.enter_context(concurrency(LIMIT, occupy=len(taken), strict=False))
        except ConcurrencySlotAcquisitionError as error:
            raise _in_words(error, len(taken)) from error
        yield Devices(kind="gpu", numbers=tuple(taken))


def _in_words(error: ConcurrencySlotAcquisitionError, gpus: int) -> UserError:
    """Why Prefect did not give so many slots of its limit."""
    cause = error.__cause__
    if isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == 422:
        return UserError(
            f"{gpus} GPUs are needed together and Prefect's limit {LIMIT!r} has fewer: set gpus in prefect.yaml to how "
            "many there are, and deploy again."
        )
    return TransientError(
        f"Prefect's server does not answer when asked for its limit {LIMIT!r} ({cause or error}): check that it runs, "
        "and run the same command again."
    )
