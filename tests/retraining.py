"""A Prefect server of a test's own, with processes beside it, and a web server that keeps the messages it gets."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from conftest import ROOT, write_images
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun

NIGHTLY = "hotdog/nightly"

#: Imported at the start of every Python process of the test: writes down which addresses outside it calls.
WATCH = """
import os, socket, sys

def watched(function, host):
    def call(*arguments, **named):
        name = host(*arguments)
        if name and not str(name).startswith(("127.", "::1", "localhost", "0.0.0.0", "/")):
            print(*sys.argv, "calls", name, file=open(os.environ["CALLS_OUTSIDE"], "a"))
        return function(*arguments, **named)
    return call

socket.getaddrinfo = watched(socket.getaddrinfo, lambda host, *rest: host)
for name in ("connect", "connect_ex"):
    setattr(socket.socket, name, watched(getattr(socket.socket, name), lambda self, address: address[0]))
"""


def prefect_file(variant: str) -> str:
    """prefect.yaml with all runs in a ``process``, in ``docker`` or in ``kubernetes``."""
    return (ROOT / "prefect.yaml").read_text(encoding="utf-8").replace("<<: *process", f"<<: *{variant}")


@contextmanager
def process(*command: str, environment: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that runs while the block does."""
    with log.open("w", encoding="utf-8") as out:
        running = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()


@dataclass
class Server:
    """A Prefect server of the test's own, and the parameters of its runs."""

    api: str
    client: SyncPrefectClient
    environment: dict[str, str]
    folder: Path

    def prefect(self, *arguments: str) -> str:
        """Call the command line; returns what it prints."""
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The parameters of a run."""
        places = {name: str(self.folder / name) for name in ("store", "models")}
        files = {"data": str(self.folder / "photos"), "weights": str(self.folder / "weights.npz")}
        return {**places, **files, "name": "hotdog"} | changes

    def start(self, name: str | None = None, **changes: Any) -> FlowRun:
        """Start a run of the deployment with other values of some settings."""
        deployment = self.client.read_deployment_by_name(NIGHTLY)
        return self.client.create_flow_run_from_deployment(deployment.id, name=name, parameters=changes)

    def runs(self) -> list[FlowRun]:
        """All runs that there have been."""
        return [run for run in self.client.read_flow_runs() if not (run.state and run.state.is_scheduled())]

    def wait(self, run: UUID) -> FlowRun:
        """A run, once it has come to its end."""
        return eventually(lambda: self._ended(run))

    def _ended(self, run: UUID) -> FlowRun | None:
        found = self.client.read_flow_run(run)
        return found if found.state and found.state.is_final() else None

    def tasks(self, run: FlowRun) -> dict[str, str]:
        """Name of each task run → its state's name."""
        found = self.client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [run.id]}))
        return {task.name: str(task.state and task.state.name) for task in found}

    def logs(self, run: FlowRun, part: str) -> list[dict[str, Any]]:
        """The lines of a run's log, its tasks' included, that hold some text."""
        lines = self.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [str(run.id)]}}, "limit": 200})
        return [line for line in lines if part in line["message"]]

    def post(self, route: str, content: dict[str, Any]) -> Any:
        """What the server answers to a request that its client has no method for."""
        return self.client._client.post(route, json=content).raise_for_status().json()


def eventually(found: Any, seconds: float = 120) -> Any:
    """The first result of a function that is not empty."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return answer


def message(run: FlowRun) -> str:
    """The name of a run's last state, and what it says."""
    assert run.state
    return f"{run.state.name}: {run.state.message}"


@pytest.fixture
def server(tmp_path: Path, weights_file: Path) -> Iterator[Server]:
    write_images(tmp_path / "photos" / "train", 8)
    write_images(tmp_path / "photos" / "validation", 4, first=100)
    shutil.copyfile(weights_file, tmp_path / "weights.npz")
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",  # and not a minute
        "PREFECT_WORKER_QUERY_SECONDS": "1",  # and not ten
        "PREFECT_DEPLOYMENT_CONCURRENCY_SLOT_WAIT_SECONDS": "2",  # and not 30
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",  # and not ten
        "PWD": str(ROOT),
        "PYTHONPATH": str(tmp_path / "watch"),
        "CALLS_OUTSIDE": str(tmp_path / "calls"),
    }
    if database := os.environ.get("TEST_DATABASE_URL"):  # an empty PostgreSQL database, and not SQLite
        environment["PREFECT_API_DATABASE_CONNECTION_URL"] = database
    command = (sys.executable, "-m", "prefect")
    with (
        process(*command, "server", "start", "--port", str(port), environment=environment, log=tmp_path / "server.log"),
        SyncPrefectClient(api) as client,
    ):
        eventually(lambda: not client.api_healthcheck())
        yield Server(api, client, environment, tmp_path)


@pytest.fixture
def notified() -> Iterator[tuple[str, list[str]]]:
    """The address of a small web server, and the messages it has received."""
    messages: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as listener:
        Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}", messages
        listener.shutdown()
