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


def test_deploying_into_containers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = server.folder / "engine" / "docker", server.folder / "asked"
    engine.parent.mkdir()
    engine.write_text(f'#!/bin/sh\necho "$*" >> {asked}\n', encoding="utf-8")
    engine.chmod(0o755)
    server.environment["PATH"] = f"{engine.parent}:{os.environ['PATH']}"
    describe = ("git", "describe", "--always", "--dirty")
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    image = f"registry.example.org/hotdog-pipeline:{commit}"
    built = f"build --file Containerfile --target pipeline --tag {image} ."
    for variant, wanted in (("docker", [built]), ("kubernetes", [built, f"push {image}"])):
        server.prefect("work-pool", "create", variant, "--type", variant)
        deploy(server, yaml.safe_load(prefect_file(variant)), "--all")
        assert asked.read_text(encoding="utf-8").splitlines() == wanted * 3
        for name in (NIGHTLY, "cifar/weekly", "score/on-demand"):
            deployment = server.client.read_deployment_by_name(name)
            assert deployment.work_pool_name == variant and deployment.job_variables["image"] == image
        asked.unlink()
    monkeypatch.setenv("HOTDOG_TEST", "before")
    with temporary_settings({PREFECT_API_URL: server.api}):
        check_a_secret(server)


def check_a_secret(server: Server) -> None:
    Secret(value="open sesame").save("test")
    described = yaml.safe_load(prefect_file("docker"))
    step = {"flows.deployments.set_environment": {"HOTDOG_TEST": "{{ prefect.blocks.secret.test }}"}}
    described["deployments"][0]["pull"].append(step)
    deploy(server, described, "--name", NIGHTLY)
    deployment = server.client.read_deployment_by_name(NIGHTLY)
    assert "open sesame" not in deployment.model_dump_json()  # it is looked up when a run begins
    asyncio.run(run_steps((deployment.pull_steps or [])[1:]))
    assert os.environ["HOTDOG_TEST"] == "open sesame"


def deploy(server: Server, described: dict[str, Any], *which: str) -> None:
    file = server.folder / "prefect.yaml"
    file.write_text(yaml.safe_dump(described), encoding="utf-8")
    server.prefect("deploy", "--prefect-file", str(file), *which)
