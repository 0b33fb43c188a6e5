"""GPUs, lent to one training at a time."""

import fcntl
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency

from cnn.backend import Device
from cnn.errors import PassingError, UserError
from cnn.progress import end_if_stopped

#: Name of the Prefect concurrency limit that holds across machines; where it does not exist, the locks alone hold.
LIMIT = "gpu"
_SECONDS_BETWEEN_TRIES = 1.0


@dataclass(frozen=True)
class Placement:
    """Where a training runs: on all of ``devices`` together, or on the first of them that is free.

    Its text, which cache keys hold, says of what kind and how many they are: which ones makes no difference.

    >>> from cnn.backend import mx
    >>> str(Placement((mx.gpu(0), mx.gpu(1)), together=False)), str(Placement((mx.cpu(),), together=True))
    ('1 gpu', '1 cpu')
    """

    devices: tuple[Device, ...]
    together: bool

    def __str__(self) -> str:
        return f"{len(self.devices) if self.together else 1} {self.devices[0].device_type}"


def _lock(device: Device) -> IO[str] | None:
    """An open file that keeps all processes of this machine off a device until it is closed; None if it is taken."""
    path = Path(tempfile.gettempdir()) / f"hotdog-pipeline-gpu-{device.device_id}.lock"
    if not path.exists():
        path.touch()
    file = path.open()  # to read only: it may be another user's
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system takes it back when the process dies
    except BlockingIOError:
        file.close()
        return None
    return file


def _take_free(devices: Sequence[Device]) -> tuple[Device, IO[str]]:
    """The first device that is free, waiting until there is one, and its lock."""
    while True:
        for device in devices:
            if lock := _lock(device):
                return device, lock
        end_if_stopped()
        time.sleep(_SECONDS_BETWEEN_TRIES)


@contextmanager
def lent(devices: Sequence[Device], together: bool = True) -> Iterator[list[Device]]:
    """Have the devices for one training: all ``together``, or the first that is free; waits for GPUs in use.

    A GPU is lent to one training at a time: on this machine by a lock, and across the runs of a Prefect server by
    its concurrency limit `LIMIT`. A CPU is lent to anybody.
    """
    if devices[0].device_type == "cpu":
        yield list(devices) if together else [devices[0]]
        return
    wanted = [[device] for device in sorted(devices, key=lambda device: device.device_id)] if together else [devices]
    with ExitStack() as stack:
        taken = []
        for choice in wanted:  # in the order of their numbers, so that two trainings never wait for each other
            device, lock = _take_free(choice)
            stack.enter_context(lock)
            taken.append(device)
        try:
            stack.enter_context(concurrency(LIMIT, occupy=len(taken), strict=False))
        except ConcurrencySlotAcquisitionError as error:
            cause = error.__cause__
            if not (isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == 422):
                raise PassingError(
                    f"Prefect's server cannot be asked for its limit {LIMIT!r} ({cause or error}): check that it runs, "
                    "and run the same command again."
                ) from error
            raise UserError(
                f"{len(taken)} GPUs are wanted together and Prefect's limit {LIMIT!r} does not lend them: set gpus in "
                f"prefect.yaml to how many there are, and deploy again."
            ) from error
        yield taken
