"""A cluster whose scheduler and workers have a network of their own each; one is lost in the middle of the work."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from clusters import files, train
from conftest import ROOT
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from cnn.data import preparation
from cnn.training import features

distributed = pytest.importorskip("distributed", reason="requirements/scale.txt is not installed")

_NETWORK, _BRIDGE = "10.213.77", f"dask{os.getpid()}"
_HERE, _SCHEDULER = f"{_NETWORK}.1", f"tcp://{_NETWORK}.2:8786"
_API = f"http://{_HERE}:4213/api"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="network namespaces need root and ip"),
]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def namespaces() -> Iterator[list[str]]:
    """The names of three network namespaces, with the addresses 2, 3 and 4 of a network; this process has 1."""
    names = [f"{_BRIDGE}-{number}" for number in (2, 3, 4)]
    ip("link", "add", _BRIDGE, "type", "bridge")
    try:
        ip("addr", "add", f"{_HERE}/24", "dev", _BRIDGE)
        ip("link", "set", _BRIDGE, "up")
        for number, name in enumerate(names, start=2):
            outside = f"{_BRIDGE}.{number}"
            ip("netns", "add", name)
            ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", outside, "master", _BRIDGE, "up")
            ip("-n", name, "addr", "add", f"{_NETWORK}.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)
        ip("link", "delete", _BRIDGE)


@pytest.fixture
def cluster(namespaces: list[str], tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes of a Prefect server here, and of a scheduler and two workers in a namespace each."""
    python = [sys.executable, "-m"]
    commands = [
        [*python, "prefect", "server", "start", "--host", "0.0.0.0", "--port", "4213"],
        *(
            ["ip", "netns", "exec", name, *python, f"distributed.cli.dask_{kind}"]
            for name, kind in zip(namespaces, ("scheduler", "worker", "worker"), strict=True)
        ),
    ]
    for command in commands[2:]:
        command += [_SCHEDULER, "--nthreads", "1", "--no-dashboard"]
    environment = os.environ | {"PREFECT_HOME": str(tmp_path / "home"), "PREFECT_API_URL": _API}
    processes = [subprocess.Popen(each, env=environment, cwd=ROOT, start_new_session=True) for each in commands]
    try:
        deadline = time.monotonic() + 240
        while not answers(f"{_API}/health") and time.monotonic() < deadline:
            time.sleep(0.5)
        yield processes
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(address: str) -> bool:
    try:
        return httpx.get(address, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def assignments() -> Counter[str]:
    """How often the scheduler gave each task to a worker."""

    def count(dask_scheduler: Any) -> Counter[str]:
        return Counter(str(key) for key, _, state, *_ in dask_scheduler.transition_log if state == "processing")

    with distributed.Client(_SCHEDULER, set_as_default=False) as client:
        return client.run_on_scheduler(count)


def test_a_machine_lost_in_the_middle(
    cluster: list[subprocess.Popen[bytes]],
    drawn: Path,
    weights_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (preparation, features):
        monkeypatch.setattr(module, "_IMAGES_PER_SHARD", 4)

    def lose_a_machine() -> None:
        while not list(tmp_path.glob("many/features/*/*.arrow")):
            time.sleep(0.01)
        os.killpg(cluster[-1].pid, signal.SIGKILL)

    with temporary_settings({PREFECT_API_URL: _API}):
        expected = train(drawn, weights_file, tmp_path / "one", "threads")
        with distributed.Client(_SCHEDULER, set_as_default=False) as client:
            client.wait_for_workers(2)
        threading.Thread(target=lose_a_machine, daemon=True).start()
        found = train(drawn, weights_file, tmp_path / "many", f"dask:{_SCHEDULER}")
        given = assignments()
        EventsWorker.drain_all(at_exit=False)  # it stays with this server, and other tests have another
    assert [files(each) for each in found] == [files(each) for each in expected]
    assert len(given) == 8 + 6  # of 32 images prepared, and 24 embedded
    assert 1 <= given.total() - len(given) <= 2  # what the lost machine was doing, and what it was about to
