"""Settings of the flows: the same on the command line, in the form of the Prefect UI and in Python."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from prefect.utilities.schema_tools import validate
from pydantic import ValidationError

from cnn.support.backend import gpu_capabilities
from cnn.support.errors import UserError
from cnn.support.text import printable
from flows.cifar import CifarSettings, cifar
from flows.commandline import parse
from flows.hotdog import HotdogSettings, hotdog
from flows.settings import FlowSettings, model_name

FLOWS: dict[type[FlowSettings], Any] = {HotdogSettings: hotdog, CifarSettings: cifar}

WRONG: list[tuple[type[FlowSettings], dict[str, Any], str]] = [
    (HotdogSettings, {"recipe": "fast"}, "recipe fast: Input should be 'tuned' or 'notebook'"),
    (HotdogSettings, {"epochs": 0}, "epochs 0: Input should be greater than or equal to 1"),
    (HotdogSettings, {"threshold": "precision"}, "threshold precision: String should match pattern"),
    (HotdogSettings, {"seed": -1}, "seed -1: Input should be greater than or equal to 0"),
    (HotdogSettings, {"epochs": 10_001}, "epochs 10001: Input should be less than or equal to 10000"),
    (HotdogSettings, {"max_drift": 2}, "max-drift 2: Input should be less than or equal to 1"),
    (HotdogSettings, {"min_new": -1}, "min-new -1: Input should be greater than or equal to 0"),
    (HotdogSettings, {"seed": 2**31}, "seed 2147483648: Input should be less than 2147483648"),
    (HotdogSettings, {"device": "tpu"}, "device tpu: String should match pattern '^(auto|cpu|"),
    (HotdogSettings, {"name": "No Such"}, "name No Such: String should match pattern"),
    (HotdogSettings, {"notify": "slack"}, "notify slack: String should match pattern"),
    (CifarSettings, {"side": 0}, "side 0: Input should be greater than or equal to 1"),
    (CifarSettings, {"architectures": []}, "architectures []: Tuple should have at least 1 item"),
    (CifarSettings, {"architectures": ["alexnet", "resnet"]}, "architectures resnet: there is no architecture"),
]


def flags(setting: dict[str, Any]) -> list[str]:
    """The command line of some settings; a flag that is set has no value."""
    named = {f"--{name.replace('_', '-')}": value for name, value in setting.items()}
    return [part for name, value in named.items() for part in ((name,) if value is True else (name, str(value)))]


@pytest.mark.parametrize(("settings", "wrong", "message"), WRONG)
def test_wrong_value_is_refused_everywhere(settings: type[FlowSettings], wrong: dict[str, Any], message: str) -> None:
    schema = FLOWS[settings].parameters.model_dump()  # what a deployment gives to the form, and to Prefect's server
    assert len(validate(wrong, schema)) == 1
    with pytest.raises(ValidationError):
        settings(**wrong)
    (value,) = wrong.values()
    arguments = {name: ",".join(value) if isinstance(value, list) and value else value for name in wrong}
    with pytest.raises(UserError) as refused:
        parse(settings, flags(arguments))
    assert str(refused.value).startswith(f"--{message}")


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (HotdogSettings, {"backbone": "resnet18_v2", "recipe": "notebook"}, "recipe notebook trains squeezenet1_1"),
        (HotdogSettings, {"recipe": "notebook", "center_only": True}, "recipe notebook answers by the center only"),
        (HotdogSettings, {"epochs": 3}, "recipe tuned solves the head and has no epochs: set none"),
        (CifarSettings, {"architectures": "vgg", "side": 15}, "15 × 15 px are too small for vgg; it takes 16 × 16"),
        (CifarSettings, {"architectures": "vgg,squeezenet", "side": 24}, "small for squeezenet; it takes 25 × 25"),
    ],
)
def test_values_that_exclude_each_other_are_refused(
    settings: type[FlowSettings], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        parse(settings, flags(values))
    in_python = {name: value.split(",") if name == "architectures" else value for name, value in values.items()}
    with pytest.raises(ValidationError, match=message):
        settings(**in_python)
    assert "--" not in str(refused.value) and "--" not in message


@pytest.mark.parametrize("setting", ["store", "models", "labels", "data", "weights", "mirror"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "the path is empty"), (" ", "the path is empty"), ("~nosuchuser", "there is no user ~nosuchuser"),
        ("~nosuchuser/a", "there is no user ~nosuchuser"), ("x" * 256, "a name in the path is longer than 255 bytes"),
        ("é" * 128, "a name in the path is longer than 255 bytes"), ("/x" * 300, "is 600 characters long"),
        ("a\0b", "no path holds a zero byte"), ("caf\udce9", "it is not text in the encoding utf-8: set PYTHONUTF8=1"),
    ],
)  # fmt: skip
def test_impossible_path_is_refused_before_any_work(setting: str, value: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        parse(HotdogSettings, [f"--{setting}", value])
    assert str(refused.value).startswith(f"--{setting} {printable(value)}: ")
    with pytest.raises(ValidationError, match=message):
        HotdogSettings(**{setting: value})


def test_name_has_a_longest_length(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--name a+: String should have at most 100 characters"):
        parse(HotdogSettings, ["--name", "a" * 300])
    assert parse(HotdogSettings, ["--name", "a" * 100]).name == "a" * 100
    assert model_name(str(tmp_path / ("b" * 250)), None) == "b" * 100


@pytest.mark.parametrize("value", [5, None, ["a"], b"a"])
def test_path_of_another_type_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="store"):
        HotdogSettings(store=value)


def test_path_stays_as_it_was_given() -> None:
    assert parse(HotdogSettings, ["--data", "~/photos"]).data == "~/photos"
    assert parse(HotdogSettings, ["--store", "."]).store == Path()
    address = "https://example.org/" + "x" * 600
    assert parse(HotdogSettings, ["--mirror", address]).mirror == address


def test_smallest_images_are_accepted() -> None:
    assert CifarSettings(architectures=("vgg",), side=16).side == 16
    assert CifarSettings(architectures=("alexnet",), side=1).side == 1


def test_several_mistakes_are_named_at_once() -> None:
    with pytest.raises(UserError, match=r"^--seed x: .*; --epochs 0: .*"):
        parse(HotdogSettings, ["--epochs", "0", "--seed", "x"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"weights": "no/such.params"},
            r"^weights no/such\.params: there is no such file; .*auto, imagenet, packaged, random",
        ),
        ({"device": "gpu"}, "^device gpu: GPU 0 cannot be used: "),
        ({"device": "gpu:0,7"}, "^device gpu:0,7: GPU . cannot be used: "),
        ({"store": "/proc/nowhere"}, "^store /proc/nowhere: cannot be written to .*; name another folder"),
        ({"models": "/proc/nowhere"}, "^models /proc/nowhere: cannot be written to"),
        (
            {"labels": "no/such.csv"},
            r"^labels no/such\.csv: expected a table in CSV .*No such file or directory; check",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(settings: dict[str, str], message: str, tmp_path: Path) -> None:
    if "device" in settings and gpu_capabilities():
        pytest.skip("this machine has a GPU")
    base = {"weights": "random", "store": tmp_path / "store", "models": tmp_path / "models"}
    with pytest.raises(UserError, match=message) as refused:
        HotdogSettings(**base | settings).check()
    assert "--" not in str(refused.value)  # a form has no flags


@pytest.mark.parametrize(
    ("data", "wanted", "name"),
    [
        ("sample", None, "hotdog-sample"), ("sample", "my-sample", "my-sample"), ("hotdog", None, "hotdog"),
        ("hotdog-records", None, "hotdog"), ("my/Pets 2", None, "pets-2"), ("a.zip", "mine", "mine"),
        ("ümläut.zip", None, "ml-ut"), ("...", None, "model"),
    ],
)  # fmt: skip
def test_name_comes_from_the_data(data: str, wanted: str | None, name: str) -> None:
    assert model_name(data, wanted) == name


def test_sample_can_never_replace_a_real_model() -> None:
    with pytest.raises(UserError, match=r"name hotdog: .* needs a name that ends in -sample"):
        model_name("sample", "hotdog")


@pytest.mark.parametrize("settings", list(FLOWS))
def test_form_shows_plain_fields_with_help(settings: type[FlowSettings]) -> None:
    schema = FLOWS[settings].parameters.model_dump()
    fields = schema["properties"]
    assert list(fields) == list(settings.model_fields)
    assert all("type" in field for field in fields.values())
    described = {name: field["description"] for name, field in fields.items()}
    assert described == {name: field.description for name, field in settings.model_fields.items()}
    assert fields["epochs"].items() >= {"type": "integer", "minimum": 1}.items()
    assert not validate({"epochs": None, "notify": None}, schema, preprocess=True, allow_none_with_default=True)
    assert fields["recipe"]["enum"] == ["tuned", "notebook"] and fields["recipe"]["default"] == "tuned"
    if settings is CifarSettings:
        assert fields["architectures"]["items"]["enum"] == ["alexnet", "vgg", "squeezenet"]


def test_flags_are_kebab_case() -> None:
    assert parse(HotdogSettings, ["--min-new", "3"]).min_new == 3
    for flag in ("--min_new", "--learning-rate"):
        with pytest.raises(SystemExit) as ended:
            parse(HotdogSettings, [flag, "3"])
        assert ended.value.code == 2


def test_environment_sets_nothing_by_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "seed", "DATA"):
        monkeypatch.setenv(name, "7")
    assert parse(HotdogSettings, []) == HotdogSettings()
    assert parse(HotdogSettings, ["--seed", "3", "--store", "x"]) == HotdogSettings(seed=3, store=Path("x"))
    monkeypatch.setenv("HOME", "/home/me")
    assert parse(HotdogSettings, ["--store", "~/store"]).store == Path("/home/me/store")


@pytest.mark.parametrize(
    "arguments", [["--architectures", "alexnet,vgg"], ["--architectures", "alexnet", "--architectures", "vgg"]]
)
def test_architectures_are_named_together_or_one_by_one(arguments: list[str]) -> None:
    assert parse(CifarSettings, arguments) == CifarSettings(architectures=("alexnet", "vgg"))


def call(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Call Python where no Prefect server can be reached; the last line of its output says whether MXNet was loaded."""
    (folder / "sitecustomize.py").write_text(
        "import atexit, sys\natexit.register(lambda: print('mxnet' in sys.modules))\n"
    )
    environment = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PYTHONPATH": str(folder)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (["flows/hotdog.py"], ["--min-new", "image classifier from photos", "hotdog-records, sample"]),
        (["flows/cifar.py"], ["--architectures", "which of alexnet, vgg, squeezenet"]),
        (["-m", "cnn"], ["classify", "clean", "models"]),
        (["-m", "cnn", "classify"], ["--json", "image files, http(s) addresses, or folders"]),
    ],
)
def test_help_needs_neither_server_nor_mxnet(program: list[str], words: list[str], tmp_path: Path) -> None:
    ended = call([*program, "--help"], tmp_path)
    *lines, loaded = ended.stdout.splitlines()
    text = " ".join(" ".join(lines).split())
    assert ended.returncode == 0 and loaded == "False" and not ended.stderr
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (["flows/hotdog.py", "--epochs", "0"], "error: --epochs 0: Input should be greater than or equal to 1"),
        (["flows/hotdog.py", "--weights", "nowhere"], "error: weights nowhere: there is no such file"),
        (["flows/cifar.py", "--side", "3"], "error: images of 3 × 3 px are too small for vgg"),
        (
            ["flows/score.py", "--input", "nowhere", "--output", "a"],
            "error: input nowhere: there is no such file or folder",
        ),
        (["-m", "cnn", "clean", "--store", "nowhere"], "error: store nowhere: there is no such folder"),
        (["-m", "cnn"], "error: expected a command, found none"),
    ],
)
def test_refused_settings_need_neither_server_nor_mxnet(program: list[str], message: str, tmp_path: Path) -> None:
    places = ["--store", str(tmp_path / "store"), "--models", str(tmp_path / "models")] if "flows" in program[0] else []
    ended = call([*program, *places], tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "False\n")
    assert ended.stderr.startswith(message) and len(ended.stderr.splitlines()) == 1
