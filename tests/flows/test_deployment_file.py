"""The deployments of prefect.yaml as far as they can be checked without a server."""

from typing import Any

import pytest
import yaml
from conftest import ROOT
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.schedules import Schedule
from prefect.utilities.schema_tools import validate
from pydantic import BaseModel

from flows import deployments
from flows.cifar import CifarSettings, cifar
from flows.hotdog import HotdogSettings, hotdog
from flows.score import ScoreSettings, score

DESCRIBED = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
FLOWS: dict[str, tuple[Any, type[BaseModel]]] = {
    "nightly": (hotdog, HotdogSettings),
    "weekly": (cifar, CifarSettings),
    "on-demand": (score, ScoreSettings),
}
ASKED = {"on-demand": {"input": "photos", "output": "scores.parquet"}}  # what a run has to say


@pytest.mark.parametrize("entry", DESCRIBED["deployments"], ids=lambda entry: entry["name"])
def test_deployments_are_of_flows_with_valid_settings(entry: dict[str, Any]) -> None:
    flow, settings = FLOWS[entry["name"]]
    assert entry["entrypoint"] == f"flows/{flow.name}.py:{flow.fn.__name__}"
    parameters = entry["parameters"] | ASKED.get(entry["name"], {})
    assert not validate(parameters, flow.parameters.model_dump())
    settings(**parameters)
    assert entry["description"] and entry["tags"]
    assert bool([Schedule(**schedule).cron for schedule in entry.get("schedules", [])]) == (entry["name"] not in ASKED)
    assert ConcurrencyLimitConfig(**entry["concurrency_limit"]).limit == 1
    assert all(isinstance(value, str) for value in entry["work_pool"]["job_variables"]["env"].values())


def test_build_steps_exist_with_these_parameters() -> None:
    for step in DESCRIBED["build"]:
        ((name, parameters),) = step.items()
        module, _, function = name.rpartition(".")
        assert module == deployments.__name__
        assert parameters.keys() <= getattr(deployments, function).__annotations__.keys()


def test_lost_runs_are_noticed_after_several_heartbeats() -> None:
    (silent,) = (step["flows.deployments.watch_for_lost_runs"]["silent_seconds"] for step in DESCRIBED["build"][1:])
    for entry in DESCRIBED["deployments"]:
        assert silent >= 5 * int(entry["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
