"""The deployments of prefect.yaml on a real server: on schedule, unchanged, with a photo added, failed, cancelled."""

import base64
import io
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
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from conftest import ROOT, write_images
from PIL import Image
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.states import Cancelling

from cnn.publication.manifest import Manifest
from flows.hotdog import HotdogSettings

pytestmark = pytest.mark.slow
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

MAKE_BLOCK = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock

text = {"text": "{{body}}"}
block = CustomWebhookNotificationBlock(name="test", url=sys.argv[1], json_data=text, allow_private_urls=True)
block.save("ops")
"""


@contextmanager
def process(*command: str, environment: dict[str, str], log: Path) -> Iterator[None]:
    """A program that runs while the block does."""
    with log.open("w", encoding="utf-8") as out:
        running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        running.terminate()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()


@dataclass
class Server:
    """A Prefect server of the test's own, and the parameters of its runs."""

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
        return {"settings": {**places, **files, "epochs": 1, "views": 1, "name": "hotdog"} | changes}

    def start(self, **changes: Any) -> FlowRun:
        """Start a run of the deployment with other settings."""
        deployment = self.client.read_deployment_by_name(NIGHTLY)
        return self.client.create_flow_run_from_deployment(deployment.id, parameters=self.settings(**changes))

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
        time.sleep(0.5)
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
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
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
        yield Server(client, environment, tmp_path)


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


def test_retraining_on_a_schedule(server: Server, notified: tuple[str, list[str]]) -> None:
    server.prefect("work-pool", "create", "local", "--type", "process")
    server.prefect("deploy", "-n", NIGHTLY, "--params", json.dumps(server.settings()))
    worker = (sys.executable, "-m", "prefect", "worker", "start", "--pool", "local")
    with process(*worker, environment=server.environment, log=server.folder / "worker.log"):
        check_the_schema(server)
        check_the_first_run(server)
        check_unchanged_data(server)
        check_an_added_photo(server)
        check_a_failed_run(server, *notified)
        check_a_cancelled_run(server, notified[1])
    calls = server.folder / "calls"
    # Prefect's server looks up what kinds of workers there are; nobody else calls anybody
    assert not calls.exists() or all("server start" in call for call in calls.read_text().splitlines())


def check_the_schema(server: Server) -> None:
    deployment = server.client.read_deployment_by_name(NIGHTLY)
    schema = deployment.parameter_openapi_schema
    assert schema and set(schema["definitions"]["HotdogSettings"]["properties"]) == set(HotdogSettings.model_fields)
    (schedule,) = deployment.schedules
    assert schedule.schedule == CronSchedule(cron="0 3 * * *", timezone="Europe/Berlin")
    assert {"retraining", "hotdog"} <= set(deployment.tags) and deployment.description
    limit = server.client.read_global_concurrency_limit_by_name("gpu")
    assert limit.limit == 1
    with pytest.raises(Exception, match="-1 is less than the minimum of 0"):
        server.start(seed=-1)


def check_the_first_run(server: Server) -> None:
    deployment = server.client.read_deployment_by_name(NIGHTLY)
    soon: Any = IntervalSchedule(interval=timedelta(days=1), anchor_date=datetime.now(UTC) + timedelta(seconds=10))
    server.client.create_deployment_schedules(deployment.id, [(soon, True)])
    started = eventually(lambda: [run for run in server.runs() if run.auto_scheduled])[0]
    run = server.wait(started.id)
    assert message(run).startswith("Completed: hotdog v0001 is published and is the champion."), message(run)
    assert run.name == "hotdog from photos"
    version = server.folder / "models" / "hotdog" / "v0001"
    shown = {artifact["key"]: artifact for artifact in server.post("/artifacts/filter", {})}
    assert {f"hotdog-{what}" for what in ("metrics", "epochs", "report", "version")} < set(shown)
    assert "progress-embed-1-views" in shown and shown["progress-embed-1-views"]["data"] == 100
    assert shown["hotdog-report"]["data"] == (version / "README.md").read_text()
    assert json.loads(shown["hotdog-epochs"]["data"])[-1]["epoch"] == "1"
    for image in version.glob("*.png"):
        data = base64.b64decode(shown[f"hotdog-{image.stem}"]["data"].removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(data)) == Image.open(image)
    wanted = {"filter": {"event": {"prefix": ["prefect.asset.materialization"]}}}
    (made,) = eventually(lambda: server.post("/events/filter", wanted)["events"])
    assert made["resource"]["prefect.resource.id"] == f"file://{version.parent}"
    lineage = {related["prefect.resource.id"] for related in made["related"]}
    assert {f"file://{server.folder / name}" for name in ("photos", "weights.npz")} <= lineage
    (epoch,) = eventually(lambda: server.logs(run, "epoch 1: train loss"))
    names = {str(task.id): task.name for task in server.client.read_task_runs()}
    assert names[epoch["task_run_id"]] == "train output block"


def check_unchanged_data(server: Server) -> None:
    run = server.wait(server.start().id)
    assert message(run) == "Completed: Nothing has changed since hotdog v0001: nothing was published."
    eventually(lambda: set(server.tasks(run).values()) == {"Cached"})


def check_an_added_photo(server: Server) -> None:
    write_images(server.folder / "photos" / "train", 1, first=50, labels=("hotdog",))
    run = server.wait(server.start(min_new=2).id)
    assert message(run).startswith("Completed: New images since hotdog v0001: 1 of the 2 wanted."), message(run)
    before = {run.id for run in server.runs()}
    server.prefect("event", "emit", "photos.added", "--resource-id", "hotdog.photos")
    (triggered,) = eventually(lambda: {run.id for run in server.runs()} - before)
    run = server.wait(triggered)
    assert "hotdog v0002 is published" in message(run)
    manifest = Manifest.open(server.folder / "models" / "hotdog" / "v0002")
    assert manifest.lineage.data.counts["train"] == {"hotdog": 9, "not_hotdog": 8}


def check_a_failed_run(server: Server, webhook: str, messages: list[str]) -> None:
    subprocess.run([sys.executable, "-c", MAKE_BLOCK, webhook], env=server.environment, check=True)
    nowhere = str(server.folder / "nowhere")
    run = server.wait(server.start(data=nowhere, notify="custom-webhook/ops").id)  # a retry would wait for a minute
    assert message(run).startswith("Failed: ") and nowhere in message(run), message(run)
    assert eventually(lambda: messages)[0].startswith("hotdog from nowhere: Failed.")
    messages.clear()


def check_a_cancelled_run(server: Server, messages: list[str]) -> None:
    wanted = {"finetune": 30, "notify": "custom-webhook/ops"}
    finished = set(server.folder.glob("store/training/*/state.npz"))
    run = server.start(**wanted)
    eventually(lambda: set(server.folder.glob("store/training/*/state.npz")) - finished)
    late = server.wait(server.start().id)
    assert message(late).startswith("Cancelled: Deployment concurrency limit"), message(late)
    server.client.set_flow_run_state(run.id, Cancelling())
    run = server.wait(run.id)
    assert run.state and run.state.name == "Cancelled"
    eventually(lambda: messages)
    assert messages[0].startswith("hotdog from photos: Cancel")
    assert len(list(server.folder.glob("models/hotdog/v*"))) == 2

    resumed = server.wait(server.start(**wanted).id)
    assert "hotdog v0003 is published" in message(resumed)
    assert eventually(lambda: server.logs(resumed, "resuming after epoch"))
