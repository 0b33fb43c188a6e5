"""Workers: processes on several machines that train one network together, by MXNet's own KVStore ``dist_sync``.

Each learns from its part of every batch, and servers sum the gradients (Li et al. 2014, "Scaling distributed machine
learning with the parameter server"): workers together do what one would do with the whole batch.
"""

import atexit
import logging
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Thread
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cnn.support.backend import keep_from_waiting, mx
from cnn.support.errors import UserError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
#: Of MXNet; where the scheduler is, and how many take part.
_VARIABLES = ("DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_SERVER", "DMLC_NUM_WORKER")
#: For so many seconds a worker waits for a step of the others. MXNet would wait for ever for one that has died.
PATIENCE = 600.0
_abandoned: list[Any] = []


class Workers:
    """This process among those that train together; without a KVStore it is alone."""

    def __init__(self, kvstore: Any = None) -> None:
        self._kvstore, self._keys = kvstore, dict[str, int]()
        self._lost: UserError | None = None
        self.rank: int = kvstore.rank if kvstore else 0
        self.count: int = kvstore.num_workers if kvstore else 1

    @property
    def leads(self) -> bool:
        """Whether it is this one that saves and publishes."""
        return self.rank == 0

    def part(self, images: int) -> slice:
        """Which images of a batch of so many are this worker's.

        >>> Workers().part(5)
        slice(0, 5, None)
        """
        return slice(self.rank * images // self.count, (self.rank + 1) * images // self.count)

    def gather(self, rows: NDArray[np.float32], images: int) -> NDArray[np.float32]:
        """Rows (images, n) of all workers, from those of this one's part; all that was begun before has ended then.

        Raises:
            UserError: another worker, or a server, did not answer in time.
        """
        if self._kvstore is None:
            return rows
        whole = np.zeros((images, rows.shape[1]), np.float32)
        whole[self.part(images)] = rows  # the other workers add theirs to these zeros

        def wait() -> NDArray[np.float32]:
            array = mx.nd.array(whole)
            self._add(f"rows {whole.shape}", [array])
            mx.nd.waitall()
            return array.asnumpy()

        return self._wait(wait)

    def add_gradients(self, parameters: dict[str, Any]) -> None:
        """Replace each gradient by its sum over all workers and their devices."""

        def add() -> None:
            for parameter in parameters.values():
                if parameter.grad_req != "null":
                    self._add(parameter.name, parameter.list_grad())

        self._wait(add)

    def share(self, parameters: dict[str, Any]) -> None:
        """Give every worker the values of the one that leads: processors round differently."""
        if self._kvstore is None:
            return

        def copy() -> None:
            for parameter in parameters.values():
                array = parameter.list_data()[0] * float(self.leads)  # the others add zeros
                self._add(parameter.name, [array])
                parameter.set_data(array)
            mx.nd.waitall()

        self._wait(copy)

    def require_all(self) -> None:
        """Refuse to continue after another worker was lost: MXNet waits for it, whatever it is asked.

        Raises:
            UserError: one did not answer in time.
        """
        if self._lost:
            raise self._lost

    def close(self) -> None:
        """Wait until all workers have come so far; then servers and scheduler end."""
        self.require_all()
        kvstore = [self._kvstore]
        self._kvstore = None
        self._wait(kvstore.clear)

    def _add(self, name: str, copies: list[Any]) -> None:
        """Begin to replace arrays, one for each device, by their sum over all devices and workers."""
        if name not in self._keys:  # all workers come here in the same order
            self._keys[name] = len(self._keys)
            self._kvstore.init(self._keys[name], mx.nd.zeros(copies[0].shape))
        self._kvstore.pushpull(self._keys[name], copies, priority=-self._keys[name])

    def _wait(self, action: Callable[[], Result]) -> Result:
        try:
            return _on_thread(action, PATIENCE)
        except TimeoutError:
            self._lost = UserError(
                f"worker {self.rank} of {self.count}: no answer from the others for {PATIENCE:g} s: a worker, a server "
                "or the scheduler has ended: end and start all of them, and the training resumes after its last epoch."
            )
            raise self._lost from None


#: A process that trains without others.
ALONE = Workers()
_current: ContextVar[Workers] = ContextVar("current", default=ALONE)
current_workers = _current.get


@contextmanager
def together() -> Iterator[Workers]:
    """Train inside the block with the other workers, if MXNet's variables ``DMLC_…`` make this process one.

    Raises:
        UserError: a variable is missing.
    """
    if os.environ.get("DMLC_ROLE") != "worker":
        yield ALONE
        return
    if missing := [name for name in _VARIABLES if not os.environ.get(name)]:
        raise UserError(f"DMLC_ROLE=worker: expected {', '.join(missing)} to be set, too, found nothing (docs/gpu.md).")
    address, port, _, count = map(os.environ.__getitem__, _VARIABLES)
    logger.info("waiting for %s workers, their servers and the scheduler at %s:%s", count, address, port)
    workers = Workers(_on_thread(lambda: mx.kv.create("dist_sync"), None))
    logger.info("worker %d of %d", workers.rank, workers.count)
    token = _current.set(workers)
    try:
        yield workers
        workers.close()
    except BaseException:
        _abandoned.append(workers)
        keep_from_waiting()
        raise
    finally:
        _current.reset(token)


def _on_thread(action: Callable[[], Result], seconds: float | None) -> Result:
    """Do what MXNet does not let a signal interrupt.

    Raises:
        TimeoutError: it took longer than so many seconds; it continues.
    """
    answer: Future[Result] = Future()

    def act() -> None:
        try:
            answer.set_result(action())
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=act, daemon=True).start()
    return answer.result(seconds)


@atexit.register  # as early as this, it comes last
def _end_without_the_others() -> None:
    """End a process that was interrupted, where MXNet would wait for workers that never come."""
    if _abandoned:
        sys.stdout.flush()
        os._exit(1)
