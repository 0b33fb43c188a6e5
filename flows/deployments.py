"""The deployments of ``prefect.yaml``: what deploying them sets up, and how one process serves them all."""

import os
from pathlib import Path
from typing import Any

import httpx
import prefect
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentTriggerTypes
from prefect.flows import load_flow_from_entrypoint
from prefect.schedules import Schedule
from prefect.settings import PREFECT_API_URL
from pydantic import TypeAdapter

from cnn.support.errors import UserError
from tasks.gpus import LIMIT

PREFECT_FILE = Path(__file__).resolve().parents[1] / "prefect.yaml"
_TRIGGERS: TypeAdapter[list[DeploymentTriggerTypes]] = TypeAdapter(list[DeploymentTriggerTypes])


def limit_gpus(gpus: int) -> None:
    """Let at most so many GPUs be reserved at a time, over all runs of this Prefect server."""
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(LIMIT, gpus)


def serve(file: Path = PREFECT_FILE) -> None:
    """Serve all deployments from this process, without a work pool, until it is stopped.

    Raises:
        UserError: no server is named, or it cannot be reached.
    """
    if not PREFECT_API_URL.value():
        raise UserError(
            "PREFECT_API_URL is not set, and schedules fire on a server only: start one with prefect server start, "
            "and set it to http://127.0.0.1:4200/api."
        )
    os.chdir(file.parent)  # entry points and folders are named from there
    described = yaml.safe_load(file.read_text(encoding="utf-8"))
    for step in described["build"]:
        try:
            limit_gpus(**step["flows.deployments.limit_gpus"])
        except httpx.TransportError as error:
            raise UserError(
                f"PREFECT_API_URL {PREFECT_API_URL.value()}: the server cannot be reached ({error}): "
                "start it with prefect server start."
            ) from error
    for entry in described["deployments"]:
        os.environ |= entry["work_pool"]["job_variables"]["env"]  # the runs are children of this process
    prefect.serve(*map(_deployment, described["deployments"]))


def _deployment(entry: dict[str, Any]) -> RunnerDeployment:
    flow: Any = load_flow_from_entrypoint(entry["entrypoint"])
    return flow.to_deployment(
        entry["name"],
        description=entry["description"],
        tags=entry["tags"],
        parameters=entry["parameters"],
        schedules=[Schedule(**schedule) for schedule in entry["schedules"]],
        concurrency_limit=ConcurrencyLimitConfig(**entry["concurrency_limit"]),
        triggers=_TRIGGERS.validate_python(entry.get("triggers", [])),
    )
