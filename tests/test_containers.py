"""Containerfile and compose.yaml as far as they can be checked without an engine: what they name is there."""

import re
import shlex
from typing import Any

import pytest
import yaml
from conftest import ROOT
from prefect.settings import Settings
from prefect.settings.legacy import _get_valid_setting_names

from cnn.__main__ import parser

STEPS = [line.split(maxsplit=1) for line in (ROOT / "Containerfile").read_text(encoding="utf-8").splitlines() if line]
COMPOSED = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSED["services"]


def arguments(instruction: str) -> list[str]:
    """What follows each instruction of this name in the Containerfile."""
    return [step[1] for step in STEPS if step[0] == instruction]


def test_what_is_copied_exists_and_is_sent_to_the_engine() -> None:
    sent = set(re.findall(r"^!(.+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M))
    copied = {source for each in arguments("COPY") for source in shlex.split(each)[:-1]}
    assert all((ROOT / source).exists() for source in copied)
    assert {source.partition("/")[0] for source in copied} == sent


def test_images_run_without_rights() -> None:
    assert arguments("USER") == ["1000"] * 2 and arguments("FROM")[1:] == ["base AS pipeline", "base AS page"]


def test_page_starts_by_a_command_of_the_project() -> None:
    command = yaml.safe_load(arguments("CMD")[-1])
    assert command[:3] == ["python", "-m", "cnn"]
    port = parser().parse_args(command[3:]).port
    assert SERVICES["page"]["ports"] == [f"127.0.0.1:{port}:{port}"] and arguments("EXPOSE") == [str(port)]


@pytest.mark.parametrize("name", SERVICES)
def test_services_name_what_there_is(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        assert service["image"] == f"hotdog-{service['build']['target']}"
        assert f"base AS {service['build']['target']}" in arguments("FROM")
    (folder,) = arguments("WORKDIR")
    for volume in service.get("volumes", []):
        source, target, *_ = volume.split(":")
        assert source.startswith("./") or source in COMPOSED["volumes"]
        assert target.startswith(f"{folder}/") or name == "database"
    assert service.get("depends_on", {}).keys() <= SERVICES.keys()
    environment = service.get("environment", {})
    settings = {variable for variable in environment if variable.startswith("PREFECT_")}
    assert settings <= _get_valid_setting_names(Settings)
    assert environment.get("PWD", folder) == folder


def test_passwords_are_in_no_file() -> None:
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            assert value.startswith("${") or not re.search("PASSWORD|AUTH|SECRET|KEY", variable), variable
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
