"""The predictor where nothing is installed but what requirements/predict.txt lists, against the one of this process."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from candidates import SMALL, explained  # noqa: F401  (a fixture)
from conftest import ROOT, write_images

from cnn import Predictor
from cnn.support.errors import UserError

#: Refuses to import every package whose distribution is not among those that are given.
ALONE = """
import importlib.metadata, re, sys

def normal(name):
    return re.sub("[-_.]+", "-", name).lower()

listed = {normal(name) for name in sys.argv.pop(1).split(",")}
provided = importlib.metadata.packages_distributions()
missing = {package for package, names in provided.items() if not listed & {normal(name) for name in names}}

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
LISTED = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "predict.txt").read_text(encoding="utf-8"), re.M)
PREDICTOR = [
    "onnxruntime",
    "numpy",
    "pillow",
    "flatbuffers",
    "protobuf",
    "packaging",
]  # with onnxruntime's own


def alone(listed: list[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ALONE + code, ",".join(listed), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def version(explained: Path) -> Path:
    """A version that says what is novel, and where it looked."""
    return explained / "food" / "v0001"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    write_images(folder, 1, labels=("hotdog",))
    return next(folder.rglob("*.jpg"))


def test_answers_alike_without_any_other_package(version: Path, image: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(version, tmp_path / "copied" / "v0007")
    code = """
import json
from cnn import Predictor
answer = Predictor(sys.argv[1]).predict(sys.argv[2])
print(json.dumps([answer.label, answer.by_class, answer.novel, answer.evidence.tolist()]))"""
    process = alone(PREDICTOR, code, str(elsewhere), str(image))
    assert process.returncode == 0, process.stderr
    label, shares, novel, evidence = json.loads(process.stdout)
    expected = Predictor(version).predict(image)
    assert (label, novel) == (expected.label, expected.novel)
    assert shares == pytest.approx(expected.by_class, abs=1e-5)
    assert expected.evidence is not None and np.shape(evidence) == expected.evidence.shape
    np.testing.assert_allclose(evidence, expected.evidence, atol=1e-4)


def test_command_line_needs_no_more_than_is_listed(version: Path, image: Path, tmp_path: Path) -> None:
    assert not {"mxnet", "prefect"} & set(LISTED)
    plot = ("--plot", str(tmp_path / "plot.png"))
    arguments = ("classify", "--models", str(version.parents[1]), "--json", str(image), *plot)
    process = alone(LISTED, "from cnn.__main__ import main\nmain()", *arguments)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["probabilities"] == pytest.approx(Predictor(version).predict(image).by_class, abs=1e-5)
    assert (tmp_path / "plot.png").stat().st_size > 1000
    assert alone(LISTED, "import cnn.serving.web.app, cnn.serving.web.server, cnn.commands.serve").returncode == 0
    refused = alone(LISTED, "from cnn.__main__ import main\nmain()", "models", "list")
    assert "models: pyarrow is not installed: install requirements/cpu.txt." in refused.stderr


def test_image_and_its_view_are_answered_alike(version: Path, image: Path) -> None:
    predictor = Predictor(version)
    (answer,) = predictor.answer([predictor.view(image.read_bytes())])
    assert answer.by_class == predictor.predict(image).by_class == predictor.predict(image.read_bytes()).by_class
    assert predictor.view(image.read_bytes()).size == (SMALL.preprocessing.crop,) * 2
    assert predictor.facts["classes"] == list(predictor.classes)


@pytest.mark.parametrize(("provider", "words"), [("cuda", "install onnxruntime-gpu"), ("tpu", "one of cpu, cuda")])
def test_provider_that_is_not_there_is_refused(version: Path, provider: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Predictor.champion(version.parents[1], provider=provider)
