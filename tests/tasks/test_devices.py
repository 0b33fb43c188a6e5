"""GPUs lent by their locks; the machine that runs this need not have any."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from cnn.backend import Device, mx
from cnn.errors import PassingError, UserError
from tasks import devices
from tasks.deployment import limit_gpus
from tasks.devices import LIMIT, lent

GPUS = [mx.gpu(0), mx.gpu(1)]
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
    monkeypatch.setattr(devices, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(devices, "concurrency", unlimited)


def borrow(wanted: Sequence[Device], together: bool) -> tuple[list[Device], ExitStack]:
    """What was lent, and what to close in order to give it back."""
    stack = ExitStack()
    return stack.enter_context(lent(wanted, together)), stack


def test_each_training_has_a_gpu_of_its_own_and_one_more_waits(waiting: Event, limits: list[tuple[str, int]]) -> None:
    with ThreadPoolExecutor() as pool, ExitStack() as rest:
        (first, hold_first), (second, hold_second) = pool.map(lambda _: borrow(GPUS, together=False), "ab")
        rest.callback(hold_first.close)
        assert sorted([*first, *second], key=str) == GPUS
        third = pool.submit(borrow, GPUS, together=False)
        assert waiting.wait(60) and not third.done()
        hold_second.close()
        taken, hold_third = third.result(60)
        assert taken == second
        hold_third.close()
    assert limits == 3 * [(devices.LIMIT, 1)]


def test_a_training_on_all_gpus_waits_for_each_of_them(waiting: Event, limits: list[tuple[str, int]]) -> None:
    with ThreadPoolExecutor() as pool:
        for gpu in GPUS:
            waiting.clear()
            with lent([gpu]):
                every = pool.submit(borrow, GPUS[::-1], together=True)
                assert waiting.wait(60) and not every.done()
            taken, hold = every.result(60)
            assert taken == GPUS
            with hold:
                waiting.clear()
                other = pool.submit(borrow, [gpu], together=False)
                assert waiting.wait(60) and not other.done()
            other.result(60)[1].close()
    assert (devices.LIMIT, 2) in limits


def test_a_training_that_fails_gives_its_gpus_back() -> None:
    with pytest.raises(ZeroDivisionError), lent(GPUS):
        raise ZeroDivisionError
    with lent(GPUS) as taken:
        assert taken == GPUS


def test_a_killed_process_gives_its_gpus_back(tmp_path: Path, waiting: Event) -> None:
    with lent(GPUS):
        pass
    locks = sorted(map(str, tmp_path.iterdir()))
    assert len(locks) == len(GPUS)
    command, pipe = [sys.executable, "-c", HOLD_LOCKS, *locks], subprocess.PIPE
    with ThreadPoolExecutor() as pool, subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout and process.stdout.readline() == b"held\n"
        mine = pool.submit(borrow, GPUS, together=False)
        assert waiting.wait(60) and not mine.done()
        process.kill()
        taken, hold = mine.result(60)
        hold.close()
    assert taken == GPUS[:1]


def test_a_cpu_is_lent_to_anybody(waiting: Event, limits: list[tuple[str, int]]) -> None:
    cpus = [mx.cpu(0), mx.cpu(1)]
    with lent(cpus) as first, lent(cpus) as second, lent(cpus, together=False) as third:
        assert first == second == cpus
        assert third == cpus[:1]
    assert not waiting.is_set() and not limits


def test_prefects_limit_lends_what_there_is(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken() -> int:
        return client.read_global_concurrency_limit_by_name(LIMIT).active_slots

    monkeypatch.setattr(devices, "concurrency", concurrency)
    with get_client(sync_client=True) as client:
        limit_gpus(1)
        try:
            with lent(GPUS, together=False):
                assert taken() == 1
            assert taken() == 0
            with (
                pytest.raises(UserError, match=r"^2 GPUs are wanted .*: set gpus in prefect\.yaml"),
                lent(GPUS),
            ):
                pass
        finally:
            client.delete_global_concurrency_limit_by_name(LIMIT)


def test_a_server_that_is_away_is_no_matter_of_the_limit(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(devices, "concurrency", concurrency)
    monkeypatch.setattr("prefect.client.base.PrefectHttpxAsyncClient.send", refuse)
    with pytest.raises(PassingError, match=r"cannot be asked for its limit 'gpu' \(.*refused.*\): check"), lent(GPUS):
        pass
