"""The deployments of prefect.yaml as far as they can be checked without a server."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import prefect
import pytest
import yaml
from conftest import ROOT
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.schedules import Schedule
from prefect.utilities.importtools import import_object
from prefect.utilities.schema_tools import validate
from pydantic import BaseModel
from retraining import prefect_file

from flows.cifar import CifarSettings, cifar
from flows.hotdog import HotdogSettings, hotdog
from flows.score import ScoreSettings, score

VARIANTS = {variant: yaml.safe_load(prefect_file(variant)) for variant in ("process", "docker", "kubernetes")}
DESCRIBED = VARIANTS["process"]
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_exist_with_these_parameters(variant: str) -> None:
    described = VARIANTS[variant]
    steps = [*described["build"]]
    for entry in described["deployments"]:
        steps += [*entry.get("build", []), *entry.get("push", []), *entry["pull"]]
    for step in steps:
        ((name, parameters),) = step.items()
        assert parameters.keys() - {"id"} <= inspect.signature(import_object(name)).parameters.keys()


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_differ_in_where_runs_take_place(variant: str) -> None:
    kinds = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
    known = {kind: each for group in json.loads(kinds.read_bytes()).values() for kind, each in group.items()}
    schema = known[variant]["default_base_job_configuration"]["variables"]
    where = {"build", "push", "pull", "work_pool"}
    for entry, usual in zip(VARIANTS[variant]["deployments"], DESCRIBED["deployments"], strict=True):
        assert {name: entry[name] for name in entry.keys() - where} == {
            name: usual[name] for name in usual.keys() - where
        }
        given = entry["work_pool"]["job_variables"]
        assert given.keys() <= schema["properties"].keys() and not validate(given, schema)
        assert given["env"] == usual["work_pool"]["job_variables"]["env"]
        assert entry.get("build", DESCRIBED["build"])[:2] == DESCRIBED["build"]


@pytest.mark.parametrize("variant", ["docker", "kubernetes"])
def test_runs_find_the_project_in_the_image(variant: str) -> None:
    containerfile = (ROOT / "Containerfile").read_text(encoding="utf-8")
    (folder,) = re.findall(r"^WORKDIR (.+)", containerfile, re.M)
    for entry in VARIANTS[variant]["deployments"]:
        (step,) = entry["pull"]
        assert step["prefect.deployments.steps.set_working_directory"]["directory"] == folder
        assert all(f":{folder}/" in volume for volume in entry["work_pool"]["job_variables"].get("volumes", []))


def test_lost_runs_are_noticed_after_several_heartbeats() -> None:
    (silent,) = (step["flows.deployments.watch_for_lost_runs"]["silent_seconds"] for step in DESCRIBED["build"][1:])
    for entry in DESCRIBED["deployments"]:
        assert silent >= 5 * int(entry["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
