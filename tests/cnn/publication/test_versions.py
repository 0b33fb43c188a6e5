"""Published versions: which are there, which is the champion, whether one is intact, and what is loaded of it."""

import json
import math
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from candidates import make_candidate
from conftest import ROOT, write_images
from PIL import Image

from cnn.data.datasets import Dataset
from cnn.publication.champions import champion, find_champion, promote, standing_champion
from cnn.publication.manifest import Manifest, versions
from cnn.publication.records import Champion
from cnn.publication.versions import can_answer, is_intact, load_version
from cnn.support.errors import UserError


@pytest.fixture(scope="module")
def published(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version that everybody copies and nobody changes."""
    folder = tmp_path_factory.mktemp("published")
    return make_candidate(folder, drawn_dataset, 0).publish(folder / "models")


@pytest.fixture
def version(published: Path, tmp_path: Path) -> Path:
    """A version in a folder of its own."""
    return shutil.copytree(published.parent, tmp_path / "models" / "food") / published.name


def test_version_is_loaded_without_a_warning(published: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier = load_version(published)
    assert classifier.classes == ("hotdog", "not_hotdog")
    write_images(tmp_path, 1, labels=("hotdog",))
    (image,) = (tmp_path / "hotdog").iterdir()
    hotdog = 1 / (1 + math.exp(-1 / classifier.calibration.temperature))  # of logits 1 and 0
    assert classifier.classify(image)["hotdog"] == pytest.approx(hotdog, abs=1e-3)
    assert classifier.classify(Image.open(image)) == classifier.classify(str(image))


@pytest.mark.parametrize(
    "name", ["manifest.json", "squeezenet-symbol.json", "squeezenet-0000.params", "squeezenet.onnx"]
)
def test_incomplete_version_is_not_loaded(version: Path, name: str) -> None:
    (version / name).unlink()
    with pytest.raises(UserError, match="v0001: it is not a whole model version"):
        load_version(version)


@pytest.mark.parametrize(
    "name", ["manifest.json", "squeezenet-symbol.json", "squeezenet-0000.params", "squeezenet.onnx", "classes.json"]
)
def test_version_with_a_flipped_bit_is_not_loaded(version: Path, name: str) -> None:
    content = (version / name).read_bytes()
    for place in np.linspace(0, len(content) - 1, 25 if name == "manifest.json" else 5, dtype=int):
        flipped = bytearray(content)
        flipped[place] ^= 4
        if name == "manifest.json" and flipped[place] in b" \n":
            continue  # its layout is not part of what it says
        (version / name).write_bytes(flipped)
        with pytest.raises(UserError, match=f"v0001.*{re.escape(name)}.* altered|is damaged|of another release"):
            load_version(version)
        assert not can_answer(version)
    (version / name).write_bytes(content)
    assert can_answer(version)


def test_altered_side_file_is_said(version: Path, caplog: pytest.LogCaptureFixture) -> None:
    (version / "README.md").write_text("edited")
    (version / "curves.png").unlink()
    load_version(version)
    assert f"{version}: altered or deleted since it was published: README.md, curves.png" in caplog.text


def test_manifest_without_a_checksum_is_of_an_earlier_release(version: Path) -> None:
    manifest = Manifest.open(version)
    content = json.loads(manifest.model_dump_json(exclude={"outlook", "judgement"}))
    (version / "manifest.json").write_text(json.dumps(content))
    assert Manifest.open(version) == manifest and can_answer(version)
    (version / "manifest.json").write_text(manifest.model_dump_json())  # a release that wrote this wrote a checksum
    assert not can_answer(version)


def test_only_unchanged_files_are_intact(version: Path) -> None:
    assert is_intact(version)
    for path in sorted(version.iterdir()):
        content = path.read_bytes()
        path.unlink()
        assert not is_intact(version), path
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert not is_intact(version), path
        path.write_bytes(content)
    assert is_intact(version)


def test_answering_on_a_cpu_needs_no_mxnet(published: Path, tmp_path: Path) -> None:
    write_images(tmp_path, 1, labels=("hotdog",))
    arguments = ["classify", str(tmp_path), "--models", str(published.parents[1])]
    code = f"""
import sys
from cnn.__main__ import main
main({arguments!r})
print("mxnet" in sys.modules, "onnx" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    answered, imported = done.stdout.splitlines()
    assert "hotdog" in answered and imported == "False False"


def test_versions_are_in_the_order_of_their_numbers(version: Path) -> None:
    for name in ("v0010", "v0002", "v10000", "v9999"):
        shutil.copytree(version, version.parent / name)
    for name in ("v0003", "v01", "vest"):
        (version.parent / name).mkdir()  # without a manifest, or named otherwise
    found = versions(version.parent)
    assert [path.name for path in found] == ["v0001", "v0002", "v0010", "v9999", "v10000"]
    assert versions(version.parent / "nothing") == {}


def test_champion_says_what_it_is(version: Path) -> None:
    other = shutil.copytree(version, version.parent / "v0002")
    promote(other)
    assert champion(version.parent) == standing_champion(version.parent) == other
    entry = Champion.read(version.parent)
    manifest = Manifest.open(version)
    assert (entry.version, entry.since) == ("v0002", manifest.created)
    assert entry.metrics == manifest.model_dump(mode="json")["metrics"] and not entry.notes


def test_champion_that_is_gone_is_reported(version: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(version)
    with pytest.raises(UserError, match=r"names v0001, which is not there; publish again"):
        champion(version.parent)
    assert standing_champion(version.parent) is None and "which is not there" in caplog.text
    (version.parent / "champion.json").write_text("[]")
    with pytest.raises(UserError, match="found something else; publish again"):
        champion(version.parent)


def test_champion_is_found_by_name(version: Path) -> None:
    models = version.parents[1]
    assert find_champion(models) == find_champion(models, "food") == version  # the only one there is
    shutil.copytree(models / "food", models / "hotdog")
    assert find_champion(models) == models / "hotdog" / "v0001"
    with pytest.raises(UserError, match=r"no model 'pets' is published there; expected one of: food, hotdog\."):
        find_champion(models, "pets")
    with pytest.raises(UserError, match=r"expected one of: nothing; publish one with python flows/hotdog\.py"):
        find_champion(models / "empty")
