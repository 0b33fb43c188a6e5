"""What came of a run, in words, and how flows get their parameters; without Prefect's server."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from candidates import Made, make_candidate
from prefect.utilities.names import generate_slug

from cnn.data.datasets import Dataset
from cnn.publication.manifest import MANIFEST_FILE, Manifest, versions
from cnn.support.errors import UserError
from cnn.support.files import file_digest
from cnn.support.references import Reference
from flows.hotdog import hotdog
from flows.outcomes import Ending, Outcome, of_version, too_few_new
from flows.runs import Place, _is_generated, require_no_failures
from flows.settings import HotdogSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def better(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_candidate(tmp_path_factory.mktemp("better"), drawn_dataset, 0)


@pytest.fixture(scope="module")
def worse(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_candidate(tmp_path_factory.mktemp("worse"), drawn_dataset, 1)


def test_outcome_says_what_was_published(better: Made, worse: Made, tmp_path: Path) -> None:
    place = Place(store=tmp_path / "store", models=tmp_path, mirror=None, labels=None)
    name, published = place.model("drawn", "food")
    assert (name, published) == ("food", [])
    first = Reference.to(better.publish(tmp_path))
    assert of_version(first, published) == Outcome(
        Ending.NEW_CHAMPION,
        "food v0001 is published and is the champion. There was no champion to compare with.",
        first.path,
    )
    published = place.model("drawn", "food")[1]
    unchanged = of_version(first, published)
    assert unchanged.ending == Ending.UNCHANGED and unchanged.message.startswith(
        "Nothing has changed since food v0001 of 20"
    )
    second = Reference.to(worse.publish(tmp_path))
    found = of_version(second, published)
    assert found.ending == Ending.NOT_PROMOTED
    assert found.message.startswith("food v0002 is published and is not the champion. Worse than the")
    published = place.model("drawn", "food")[1]
    assert published == list(versions(tmp_path / "food"))
    assert "was made from this data and these settings: nothing was published" in of_version(first, published).message


def test_too_few_new_images_are_counted(better: Made, drawn_dataset: Dataset, tmp_path: Path) -> None:
    dataset, version = Reference.to(drawn_dataset.folder), better.publish(tmp_path)
    assert too_few_new(dataset, [], 5) is None  # the first version is of new images only
    assert too_few_new(dataset, [version], 0) is None
    assert too_few_new(dataset, [version], 1) == Outcome(
        Ending.TOO_FEW_NEW,
        "New images since food v0001: 0 of the 1 wanted. Nothing was trained or published.",
        version,
    )
    known = pq.read_table(version / "images.parquet")
    pq.write_table(known.slice(2), version / "images.parquet")  # as if two had been added since
    files = {path.name: file_digest(path) for path in version.iterdir() if path.name != MANIFEST_FILE}
    Manifest(**dict(Manifest.open(version)) | {"files": files}).save(version)
    assert too_few_new(dataset, [version], 2) is None
    assert "2 of the 3 wanted" in str(too_few_new(dataset, [version], 3))


def test_failures_are_named_with_what_was_published(tmp_path: Path) -> None:
    version = Reference(path=tmp_path / "v0001", digest="", checksum="")
    require_no_failures({}, version)
    with pytest.raises(UserError) as raised:
        require_no_failures({"vgg": "vgg failed.", "alexnet": "alexnet, too."}, version)
    expected = f"vgg failed. alexnet, too. The best of the others is published: {version.path}."
    assert str(raised.value) == expected


def test_parameters_are_those_of_the_settings() -> None:
    parameters = inspect.signature(hotdog.fn).parameters
    assert {name: each.default for name, each in parameters.items()} == dict(HotdogSettings())
    assert hotdog.validate_parameters({"seed": "2"})["seed"] == 2


def test_names_that_prefect_makes_up_are_recognised() -> None:
    assert all(_is_generated(generate_slug(2)) for _ in range(1000))
    assert not any(map(_is_generated, ("new-camera", "Monday", "retry 3", "", "a")))


def test_prefect_is_imported_with_our_settings() -> None:
    code = (
        "import runpy\nrunpy.run_path('flows/hotdog.py')\nfrom prefect.settings import get_current_settings\n"
        "server = get_current_settings().server\n"
        "print(server.ephemeral.startup_timeout_seconds, server.analytics_enabled)"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["120", "False"]
