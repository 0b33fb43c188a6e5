"""The deployments of prefect.yaml, as one process serves them."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from cnn.support.errors import UserError
from flows import deployments
from flows.cifar import CifarSettings
from flows.commandline import run_flow
from flows.hotdog import HotdogSettings, hotdog


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What would be served, by name, and under ``gpu`` how many GPUs are reserved at a time."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(deployments, "limit_gpus", lambda gpus: found.update(gpu=gpus))
    monkeypatch.setattr(deployments.prefect, "serve", lambda *each: found.update({one.name: one for one in each}))
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "chdir", lambda folder: None)
    monkeypatch.setattr(deployments.PREFECT_API_URL, "value", lambda: "http://127.0.0.1:4200/api")
    deployments.serve()
    return found


def test_process_serves_what_the_file_describes(served: dict[str, Any]) -> None:
    described = yaml.safe_load(deployments.PREFECT_FILE.read_text(encoding="utf-8"))
    assert served.pop("gpu") == 1
    assert set(served) == {entry["name"] for entry in described["deployments"]} == {"nightly", "weekly"}
    for entry in described["deployments"]:
        ours = served[entry["name"]]
        assert ours.description == entry["description"] and ours.entrypoint == entry["entrypoint"]
        assert set(ours.tags) == set(entry["tags"])
        assert [schedule.schedule for schedule in ours.schedules] == [
            CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"]) for schedule in entry["schedules"]
        ]
        assert ours.concurrency_limit == 1 and ours.concurrency_options.collision_strategy == "CANCEL_NEW"
        assert os.environ.items() >= entry["work_pool"]["job_variables"]["env"].items()
    assert [trigger.expect for trigger in served["nightly"].triggers] == [{"photos.added"}]


def test_without_a_server_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments.PREFECT_API_URL, "value", lambda: None)
    with pytest.raises(UserError, match="PREFECT_API_URL is not set"):
        deployments.serve()


def test_unreachable_server_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "chdir", lambda folder: None)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        with pytest.raises(UserError, match=r"127\.0\.0\.1:9/api: the server cannot be reached"):
            deployments.serve()
        places = ["--store", str(tmp_path / "store"), "--models", str(tmp_path / "models")]
        monkeypatch.setattr(sys, "argv", ["hotdog.py", "--weights", "random", *places])
        with pytest.raises(SystemExit, match=r"Prefect.s server: .* start it with prefect server start"):
            run_flow(HotdogSettings, hotdog)


def test_parameters_are_settings_of_the_flows(served: dict[str, Any]) -> None:
    for name, settings in (("nightly", HotdogSettings), ("weekly", CifarSettings)):
        assert settings(**served[name].parameters["settings"])
