"""GPUs reserved by their locks and by Prefect's limit; the machine that runs this need not have any."""

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import copy_context
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from cnn.support.backend import Devices
from cnn.support.errors import TransientError, UserError
from cnn.support.progress import Cancelled, cancel_together
from flows.deployments import limit_gpus
from tasks import gpus
from tasks.gpus import LIMIT, Placement, reserved

BOTH = Devices(kind="gpu", numbers=(0, 1))
FIRST, SECOND = (Devices(kind="gpu", numbers=(number,)) for number in (0, 1))
HOLD_LOCKS = """
import fcntl, sys
held = [open(name, "a") for name in sys.argv[1:]]
for file in held:
    fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def waiting() -> Event:
    """Set whenever a training finds no GPU free."""
    return Event()


@pytest.fixture
def limits() -> list[tuple[str, int]]:
    """What was asked of Prefect's concurrency limit."""
    return []


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: Event, limits: list[tuple[str, int]]) -> None:
    """Locks in a folder of their own, no server, and no long waiting."""

    def sleep(_: float) -> None:
        waiting.set()
        time.sleep(0.01)

    def unlimited(name: str, occupy: int, strict: bool) -> AbstractContextManager[None]:
        assert not strict  # where nobody made the limit, it must not be an error
        limits.append((name, occupy))
        return nullcontext()

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gpus, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(gpus, "concurrency", unlimited)


def all_of(devices: Devices) -> Placement:
    return Placement(devices=devices, together=True)


def one_of(devices: Devices) -> Placement:
    return Placement(devices=devices, together=False)


def reserve(placement: Placement) -> tuple[Devices, ExitStack]:
    """What was reserved, and what to close in order to release it."""
    stack = ExitStack()
    return stack.enter_context(reserved(placement)), stack


def test_third_training_waits_for_two_gpus(waiting: Event, limits: list[tuple[str, int]]) -> None:
    with ThreadPoolExecutor() as pool, ExitStack() as rest:
        (first, hold_first), (second, hold_second) = pool.map(lambda _: reserve(one_of(BOTH)), "ab")
        rest.callback(hold_first.close)
        assert {first, second} == {FIRST, SECOND}
        third = pool.submit(reserve, one_of(BOTH))
        assert waiting.wait(60) and not third.done()
        hold_second.close()
        taken, hold_third = third.result(60)
        assert taken == second
        hold_third.close()
    assert limits == 3 * [(LIMIT, 1)]


def test_training_on_all_gpus_waits_for_each(waiting: Event, limits: list[tuple[str, int]]) -> None:
    backwards = Devices(kind="gpu", numbers=(1, 0))
    with ThreadPoolExecutor() as pool:
        for gpu in (FIRST, SECOND):
            waiting.clear()
            with reserved(all_of(gpu)):
                every = pool.submit(reserve, all_of(backwards))
                assert waiting.wait(60) and not every.done()
            taken, hold = every.result(60)
            assert taken == BOTH
            with hold:
                waiting.clear()
                other = pool.submit(reserve, one_of(gpu))
                assert waiting.wait(60) and not other.done()
            other.result(60)[1].close()
    assert (LIMIT, 2) in limits


def test_failed_training_releases_its_gpus() -> None:
    with pytest.raises(ZeroDivisionError), reserved(all_of(BOTH)):
        raise ZeroDivisionError
    with reserved(all_of(BOTH)) as taken:
        assert taken == BOTH


def test_killed_process_releases_its_gpus(tmp_path: Path, waiting: Event) -> None:
    with reserved(all_of(BOTH)):
        pass
    locks = sorted(map(str, tmp_path.iterdir()))
    assert len(locks) == 2
    command, pipe = [sys.executable, "-c", HOLD_LOCKS, *locks], subprocess.PIPE
    with ThreadPoolExecutor() as pool, subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout and process.stdout.readline() == b"held\n"
        mine = pool.submit(reserve, one_of(BOTH))
        assert waiting.wait(60) and not mine.done()
        process.kill()
        taken, hold = mine.result(60)
        hold.close()
    assert taken == FIRST


def test_cancelled_training_stops_waiting(waiting: Event) -> None:
    with ThreadPoolExecutor() as pool, reserved(all_of(FIRST)):
        with pytest.raises(KeyboardInterrupt), cancel_together():
            other = pool.submit(copy_context().run, reserve, one_of(FIRST))
            assert waiting.wait(60)
            raise KeyboardInterrupt
        with pytest.raises(Cancelled):
            other.result(60)


def test_cpu_is_not_reserved(waiting: Event, limits: list[tuple[str, int]]) -> None:
    cpus = Devices(numbers=(0, 1))
    with reserved(all_of(cpus)) as first, reserved(all_of(cpus)) as second, reserved(one_of(cpus)) as third:
        assert first == second == cpus
        assert third == Devices(numbers=(0,))
    assert not waiting.is_set() and not limits


def test_prefects_limit_counts_gpus(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken() -> int:
        return client.read_global_concurrency_limit_by_name(LIMIT).active_slots

    monkeypatch.setattr(gpus, "concurrency", concurrency)
    with get_client(sync_client=True) as client:
        limit_gpus(1)
        try:
            with reserved(one_of(BOTH)):
                assert taken() == 1
            assert taken() == 0
            message = r"^2 GPUs are needed together and Prefect's limit 'gpu' has fewer: set gpus in prefect\.yaml"
            with pytest.raises(UserError, match=message), reserved(all_of(BOTH)):
                pass
        finally:
            client.delete_global_concurrency_limit_by_name(LIMIT)


def test_unreachable_server_is_a_transient_error(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(gpus, "concurrency", concurrency)
    monkeypatch.setattr("prefect.client.base.PrefectHttpxAsyncClient.send", refuse)
    message = r"does not answer when asked for its limit 'gpu' \(.*refused.*\): check that it runs"
    with pytest.raises(TransientError, match=message), reserved(all_of(BOTH)):
        pass
