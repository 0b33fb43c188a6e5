"""The deployments of prefect.yaml on a real server: on schedule, unchanged, with a photo added, failed, cancelled."""

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import write_images
from PIL import Image
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling
from retraining import NIGHTLY, Server, eventually, message, notified, process, server  # noqa: F401

from cnn.publication.manifest import Manifest
from flows.deployments import watch_for_lost_runs
from flows.hotdog import HotdogSettings

pytestmark = pytest.mark.long
BLOCK = "custom-webhook/ops"


def test_retraining_on_a_schedule(server: Server, notified: tuple[str, list[str]]) -> None:
    server.client.create_work_pool(WorkPoolCreate(name="local", type="process"))
    server.prefect("deploy", "-n", NIGHTLY, "--params", json.dumps(server.settings()))
    check_the_schema(server)
    webhook, messages = notified
    with temporary_settings({PREFECT_API_URL: server.api}):
        text = {"text": "{{body}}"}
        CustomWebhookNotificationBlock(name="test", url=webhook, json_data=text, allow_private_urls=True).save("ops")
    with worker(server, "worker.log") as running:
        check_the_first_run(server)
        check_unchanged_data(server, messages)
        check_an_added_photo(server)
        check_a_failed_run(server, messages)
        check_a_cancelled_run(server, messages)
        lost = check_a_lost_machine(server, running.pid)
    with worker(server, "worker2.log"):
        check_what_a_lost_machine_left(server, lost)
    calls = server.folder / "calls"
    # Prefect's server looks up what kinds of workers there are; nobody else calls anybody
    assert not calls.exists() or all("server start" in call for call in calls.read_text().splitlines())


def worker(server: Server, log: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    command = (sys.executable, "-m", "prefect", "worker", "start", "--pool", "local")
    return process(*command, environment=server.environment, log=server.folder / log)


def check_the_schema(server: Server) -> None:
    deployment = server.client.read_deployment_by_name(NIGHTLY)
    schema = deployment.parameter_openapi_schema
    assert schema and set(schema["properties"]) == set(HotdogSettings.model_fields)
    (schedule,) = deployment.schedules
    assert schedule.schedule == CronSchedule(cron="0 3 * * *", timezone="Europe/Berlin")
    assert {"retraining", "hotdog"} <= set(deployment.tags) and deployment.description
    limit = server.client.read_global_concurrency_limit_by_name("gpu")
    assert limit.limit == 1
    with pytest.raises(Exception, match="-1 is less than the minimum of 0"):
        server.start(seed=-1)
    soon: Any = IntervalSchedule(interval=timedelta(days=1), anchor_date=datetime.now(UTC) + timedelta(seconds=10))
    server.client.create_deployment_schedules(deployment.id, [(soon, True)])


def check_the_first_run(server: Server) -> None:
    started = eventually(lambda: [run for run in server.runs() if run.auto_scheduled])[0]
    run = server.wait(started.id)
    assert message(run).startswith("New champion: hotdog v0001 is published and is the champion."), message(run)
    assert re.fullmatch(r"photos, \d{4}-\d\d-\d\d \d\d:\d\d", run.name)
    version = server.folder / "models" / "hotdog" / "v0001"
    shown = {artifact["key"]: artifact for artifact in server.post("/artifacts/filter", {})}
    assert "progress-embed" in shown and shown["progress-embed"]["data"] == 100
    page = shown["hotdog-report"]["data"]
    assert page.startswith("# hotdog: New champion\n") and str(version) in page and "| validation |" in page
    for figure in version.glob("*.png"):
        (data,) = re.findall(rf"!\[{figure.stem}\]\(data:image/jpeg;base64,(.*?)\)", page)
        assert Image.open(io.BytesIO(base64.b64decode(data))).width == min(1000, Image.open(figure).width)
    (row,) = json.loads(shown["hotdog-history"]["data"])
    assert row["version"] == "v0001 (champion)"
    wanted = {"filter": {"event": {"prefix": ["prefect.asset.materialization"]}}}
    (made,) = eventually(lambda: server.post("/events/filter", wanted)["events"])
    assert made["resource"]["prefect.resource.id"] == f"file://{version.parent}"
    lineage = {related["prefect.resource.id"] for related in made["related"]}
    assert {f"file://{server.folder / name}" for name in ("photos", "weights.npz")} <= lineage
    (line,) = eventually(lambda: server.logs(run, "Classes: hotdog, not_hotdog."))
    names = {str(task.id): task.name for task in server.client.read_task_runs()}
    assert names[line["task_run_id"]] == "prepare photos"


def check_unchanged_data(server: Server, messages: list[str]) -> None:
    run = server.wait(server.start(name="just looking", notify=BLOCK).id)
    expected = "Unchanged: Nothing has changed since hotdog v0001 of "
    assert message(run).startswith(expected) and run.name == "just looking"
    assert not messages  # it is no failure
    eventually(lambda: set(server.tasks(run).values()) == {"Cached"})
    shown = {artifact["key"]: artifact for artifact in server.post("/artifacts/latest/filter", {})}
    assert shown["hotdog-report"]["data"].startswith("# hotdog: Unchanged\n\nNothing has changed since hotdog v0001")
    assert shown["hotdog-report"]["flow_run_id"] == str(run.id)


def check_an_added_photo(server: Server) -> None:
    write_images(server.folder / "photos" / "train", 1, first=50, labels=("hotdog",))
    before = {run.id for run in server.runs()}
    server.prefect("event", "emit", "photos.added", "--resource-id", "hotdog.photos")
    (triggered,) = eventually(lambda: {run.id for run in server.runs()} - before)
    run = server.wait(triggered)
    assert "hotdog v0002 is published" in message(run)
    manifest = Manifest.open(server.folder / "models" / "hotdog" / "v0002")
    assert manifest.lineage.data.counts["train"] == {"hotdog": 9, "not_hotdog": 8}


def check_a_failed_run(server: Server, messages: list[str]) -> None:
    nowhere = str(server.folder / "nowhere")
    run = server.wait(server.start(data=nowhere, notify=BLOCK).id)  # a retry would wait for a minute
    assert message(run).startswith("Failed: ") and nowhere in message(run), message(run)
    first, where, link = eventually(lambda: messages).pop().splitlines()
    assert first.startswith(f"{run.name}: Failed. ") and nowhere in first
    assert re.fullmatch(rf"hotdog/nightly on {re.escape(socket.gethostname())}, \d+ min \d+ s", where)
    assert link.endswith(f"/runs/flow-run/{run.id}")
    assert not server.logs(run, "Traceback")
    shown = {artifact["key"]: artifact for artifact in server.post("/artifacts/latest/filter", {})}
    assert shown["hotdog-report"]["data"].startswith("# hotdog: Failed\n")


def check_a_cancelled_run(server: Server, messages: list[str]) -> None:
    wanted: dict[str, Any] = {"recipe": "notebook", "epochs": 30, "notify": BLOCK}
    finished = set(server.folder.glob("store/training/*/state.npz"))
    run = server.start(**wanted)
    eventually(lambda: set(server.folder.glob("store/training/*/state.npz")) - finished)
    queued = server.start(notify=BLOCK, notify_about="everything")
    eventually(lambda: str(server.client.read_flow_run(queued.id).state_name) == "AwaitingConcurrencySlot")
    server.client.set_flow_run_state(run.id, Cancelling())
    run = server.wait(run.id)
    assert run.state and run.state.name == "Cancelled"
    assert eventually(lambda: messages).pop().startswith(f"{run.name}: Cancel")
    assert message(server.wait(queued.id)).startswith("Unchanged: ")
    (news,) = eventually(lambda: messages)
    assert ": Unchanged. " in news
    assert len(list(server.folder.glob("models/hotdog/v*"))) == 2

    resumed = server.wait(server.start(**wanted).id)
    assert "hotdog v0003 is published" in message(resumed)
    assert eventually(lambda: server.logs(resumed, "resuming after epoch"))


def check_a_lost_machine(server: Server, worker: int) -> FlowRun:
    with temporary_settings({PREFECT_API_URL: server.api}):
        for _ in range(2):  # deployed again, there is one automation still
            watch_for_lost_runs(10)
    assert len(server.client.read_automations_by_name("mark lost runs as crashed")) == 1
    run = server.start(recipe="notebook", epochs=60)
    eventually(lambda: server.tasks(run).get("train output block") == "Running")
    children = Path(f"/proc/{worker}/task/{worker}/children").read_text(encoding="utf-8").split()
    for each in [str(worker), *children]:
        os.kill(int(each), signal.SIGKILL)
    lost = server.wait(run.id)
    assert message(lost) == "Crashed: No heartbeat for 10 s: its machine was lost."
    assert server.tasks(run)["train output block"] == "Running"
    return run


def check_what_a_lost_machine_left(server: Server, lost: FlowRun) -> None:
    assert message(server.wait(server.start().id)).startswith("Unchanged: ")
    eventually(lambda: "Running" not in server.tasks(lost).values())
    assert "Crashed" in server.tasks(lost).values()
