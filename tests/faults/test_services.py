"""Prefect's server, or its PostgreSQL, stopped and started in the middle of a run; the clock set back meanwhile."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from disturbed import MODELS, Bench, Place, bench  # noqa: F401  (a fixture)
from retraining import eventually, process

from cnn.publication.records import read_manifest


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Service:
    """A Prefect server with a database of its own that can be stopped and started."""

    def __init__(self, folder: Path, database: str = "") -> None:
        self.folder, self.port = folder, free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            **({"PREFECT_API_DATABASE_CONNECTION_URL": database} if database else {}),
        }

    def answers(self) -> bool:
        try:
            return httpx.post(f"{self.api}/flow_runs/count", json={}, timeout=5).is_success
        except httpx.HTTPError:
            return False

    @contextmanager
    def started(self) -> Iterator[None]:
        command = (sys.executable, "-m", "prefect", "server", "start", "--port", str(self.port))
        with process(*command, environment=self.environment, log=self.folder / "server.log"):
            eventually(self.answers)
            yield


def start_and_wait_for_a_step(place: Place, **environment: str) -> "subprocess.Popen[bytes]":
    """A run that has finished its first step."""
    run = place.start_afresh(**environment)
    eventually(lambda: place.steps() or run.poll() is not None)
    assert place.steps()
    return run


def check_next_run(bench: Bench, place: Place, run: "subprocess.Popen[bytes]", api: str) -> None:
    """The disturbed run ends, well or not; the next one ends as one that nothing happened to."""
    print(f"\n{place.folder.name}: exit {run.wait(300)} after {list(place.steps())}")
    assert place.champion() in ("v0001", "v0002")
    assert place.start_afresh(PREFECT_API_URL=api).wait(300) == 0
    bench.check(place)


@pytest.mark.long
def test_server_stopped_and_started_in_mid_run(bench: Bench, tmp_path: Path) -> None:
    bench.undisturbed("cifar")
    place, service = bench.place("cifar", "server-stopped"), Service(tmp_path)
    with service.started():
        run = start_and_wait_for_a_step(place, PREFECT_API_URL=service.api)
    with service.started():
        check_next_run(bench, place, run, service.api)


@pytest.fixture
def postgres() -> Iterator[Callable[..., str]]:
    """Starts or stops a PostgreSQL server of the test's own; returns its address for Prefect."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    user = "nobody" if os.getuid() == 0 else None  # PostgreSQL refuses to be run by root
    folder, port = Path(tempfile.mkdtemp()), free_port()
    if user:
        shutil.chown(folder, user)

    def control(program: str, *arguments: str) -> None:
        command = [str(programs[-1] / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL)

    def turn(action: str) -> str:
        if action == "start":
            control("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", f"-p {port} -h 127.0.0.1 -k {folder}")
        else:
            control("pg_ctl", "stop", "-w", "-m", "immediate")
        return f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"

    try:
        control("initdb", "-A", "trust", "-U", "prefect")
        yield turn
        turn("stop")
    finally:
        shutil.rmtree(folder)


@pytest.mark.long
def test_postgres_stopped_and_started_in_mid_run(bench: Bench, tmp_path: Path, postgres: Callable[..., str]) -> None:
    bench.undisturbed("cifar")
    place, service = bench.place("cifar", "postgres-stopped"), Service(tmp_path, postgres("start"))
    with service.started():
        run = start_and_wait_for_a_step(place, PREFECT_API_URL=service.api)
        postgres("stop")
        time.sleep(5)
        postgres("start")
        eventually(service.answers)
        check_next_run(bench, place, run, service.api)


@pytest.mark.long
def test_clock_set_back_a_day_in_mid_run(bench: Bench, tmp_path: Path) -> None:
    libraries = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("libfaketime is not installed")
    bench.undisturbed("cifar")
    place, clock = bench.place("cifar", "clock"), tmp_path / "clock"
    clock.write_text("+0")
    faked = {"LD_PRELOAD": str(libraries[0]), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_CACHE_DURATION": "1"}
    run = start_and_wait_for_a_step(place, **faked, FAKETIME_DONT_FAKE_MONOTONIC="1")
    clock.write_text("-1d")
    assert run.wait(300) == 0, place.log.read_text(encoding="utf-8")
    bench.check(place)
    version = read_manifest(place.folder / "models" / MODELS["cifar"] / "v0002")
    assert datetime.fromisoformat(version["created"]) < datetime.now(UTC) - timedelta(hours=23)
    place.run()
    bench.check(place)
