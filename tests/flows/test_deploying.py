"""Deploying into containers, on a real server; in place of an engine a script that writes down what it is asked for."""

import asyncio
import os
import subprocess
from typing import Any

import pytest
import yaml
from conftest import ROOT
from prefect.blocks.system import Secret
from prefect.deployments.steps.core import run_steps
from prefect.settings import PREFECT_API_URL, temporary_settings
from retraining import NIGHTLY, Server, prefect_file, server  # noqa: F401

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("variant", "pushed"), [("docker", False), ("kubernetes", True)])
def test_deploying_builds_the_image(server: Server, variant: str, pushed: bool) -> None:
    calls = with_engine(server)
    server.prefect("work-pool", "create", variant, "--type", variant)
    (server.folder / "prefect.yaml").write_text(prefect_file(variant), encoding="utf-8")
    server.prefect("deploy", "--prefect-file", str(server.folder / "prefect.yaml"), "--all")
    found = server.client.read_deployments()
    assert {each.name for each in found} == {"nightly", "weekly", "on-demand"}
    describe = ("git", "describe", "--always", "--dirty")
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    image = f"registry.example.org/hotdog-pipeline:{commit}"
    for deployment in found:
        assert deployment.work_pool_name == variant and deployment.job_variables["image"] == image
    built = f"build --file Containerfile --target pipeline --tag {image} ."
    assert calls() == [built, *([f"push {image}"] if pushed else [])] * len(found)


def test_secrets_are_looked_up_by_the_run(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with_engine(server)
    server.prefect("work-pool", "create", "docker", "--type", "docker")
    described: dict[str, Any] = yaml.safe_load(prefect_file("docker"))
    secret = {"flows.deployments.set_environment": {"HOTDOG_TEST": "{{ prefect.blocks.secret.test }}"}}
    described["deployments"][0]["pull"].append(secret)
    (server.folder / "prefect.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    monkeypatch.setenv("HOTDOG_TEST", "before")
    with temporary_settings({PREFECT_API_URL: server.api}):
        Secret(value="open sesame").save("test")
        server.prefect("deploy", "--prefect-file", str(server.folder / "prefect.yaml"), "--name", NIGHTLY)
        deployment = server.client.read_deployment_by_name(NIGHTLY)
        assert "open sesame" not in deployment.model_dump_json()
        asyncio.run(run_steps((deployment.pull_steps or [])[1:]))
    assert os.environ["HOTDOG_TEST"] == "open sesame"


def with_engine(server: Server) -> Any:
    """Put a ``docker`` before all others that does nothing; returns a function that gives what it was asked for."""
    script, asked = server.folder / "engine" / "docker", server.folder / "asked"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$*" >> {asked}\n', encoding="utf-8")
    script.chmod(0o755)
    server.environment["PATH"] = f"{script.parent}:{os.environ['PATH']}"
    return lambda: asked.read_text(encoding="utf-8").splitlines()
