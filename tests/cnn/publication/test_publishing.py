"""Which candidate becomes a version and which version the champion; what a killed publication leaves."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from candidates import Made, make_candidate
from conftest import ROOT, write_images

from cnn.data.datasets import Dataset
from cnn.data.preparation import prepare
from cnn.evaluation.comparison import Comparison, ComparisonRow
from cnn.publication.champions import champion, find_champion, promote, standing_champion
from cnn.publication.manifest import Manifest
from cnn.publication.versions import new_images, versions
from cnn.support.errors import UserError
from cnn.support.files import file_digest


@pytest.fixture(scope="module")
def hotdog(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A candidate of test F1 2/3: everything is a hotdog."""
    return make_candidate(tmp_path_factory.mktemp("hotdog"), drawn_dataset, 0)


@pytest.fixture(scope="module")
def other(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A candidate of test F1 0: nothing is a hotdog."""
    return make_candidate(tmp_path_factory.mktemp("other"), drawn_dataset, 1)


@pytest.fixture(scope="module")
def equal(drawn_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Another network with the same predictions as `hotdog`."""
    return make_candidate(tmp_path_factory.mktemp("equal"), drawn_dataset, 0, bias=2)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def photos(tmp_path: Path, drawn: Path) -> Path:
    """A copy of the drawn images that a test may change."""
    return shutil.copytree(drawn, tmp_path / "photos")


def edit(version: Path, **changes: object) -> None:
    """Change a published manifest."""
    manifest = Manifest(**dict(Manifest.open(version)) | changes)
    manifest.save(version)


def measure_f1(version: Path, f1: float) -> None:
    """Change the test F1 that a version says it has."""
    metrics = Manifest.open(version).metrics
    edit(version, metrics=metrics | {"test": metrics["test"].model_copy(update={"f1": f1})})


# ---- the gate


def test_worse_is_published_but_not_promoted(hotdog: Made, other: Made, models: Path) -> None:
    assert champion(models / "food") is None
    first = other.publish(models)
    assert champion(models / "food") == first and Manifest.open(first).promoted
    second = hotdog.publish(models)
    assert champion(models / "food") == second
    third = other.of_other_data().publish(models)
    assert champion(models / "food") == second
    assert [path.name for path in versions(models / "food")] == ["v0001", "v0002", "v0003"]
    assert not Manifest.open(third).promoted
    assert Manifest.open(third).reason == (
        "Worse than the champion: test F1 0.0000 against 0.6667 of v0002 on the same images."
    )


def test_equal_is_promoted(hotdog: Made, equal: Made, models: Path) -> None:
    hotdog.publish(models)
    second = equal.publish(models)
    assert second.name == "v0002" and champion(models / "food") == second
    assert Manifest.open(second).reason.startswith("Not worse than the champion: test F1 0.6667 against 0.6667")


def test_a_hair_worse_is_not_promoted(hotdog: Made, equal: Made, models: Path) -> None:
    first = hotdog.publish(models)
    measure_f1(first, float(np.nextafter(Manifest.open(first).metrics["test"].f1, 1)))
    assert not Manifest.open(equal.publish(models)).promoted
    assert champion(models / "food") == first


def test_gate_compares_by_the_recipes_metric(hotdog: Made, equal: Made, models: Path) -> None:
    first = hotdog.publish(models)
    metrics = Manifest.open(first).metrics
    perfect = {"accuracy": 1.0, "precision": 1.0, "recall": 1.0}
    better = metrics["test"].model_copy(update=perfect)
    edit(first, metrics={"validation": better.model_copy(update={"f1": 1.0}), "test": better})
    second = equal.with_lineage(stages=({"chosen_by": "accuracy"},)).publish(models)
    assert "test accuracy 0.5000 against 1.0000 of v0001" in Manifest.open(second).reason
    shutil.rmtree(second)
    assert Manifest.open(equal.publish(models)).promoted  # its F1 is the same


def test_champion_is_evaluated_anew_on_other_images(hotdog: Made, other: Made, models: Path) -> None:
    first = hotdog.publish(models)
    measure_f1(first, 0.0)  # as if it had been measured on harder images
    second = other.of_other_data().publish(models)
    assert "0.0000 against 0.6667 of v0001" in Manifest.open(second).reason
    assert champion(models / "food") == first


def move(photos: Path, label: str, names: str, source: str, target: str) -> None:
    """Move images of a class from one split to another."""
    for name in names.split():
        (photos / source / label / f"{name}.jpg").rename(photos / target / label / f"{name}.jpg")


def clear(photos: Path, split: str) -> None:
    """Take all images out of a split."""
    for label in ("hotdog", "not_hotdog"):
        shutil.rmtree(photos / split / label)
        (photos / split / label).mkdir()


def test_images_that_the_champion_was_made_from_do_not_count(hotdog: Made, photos: Path, models: Path) -> None:
    first = hotdog.publish(models)
    for name in ("0200", "0201"):
        (photos / "test" / "hotdog" / f"{name}.jpg").unlink()
    move(photos, "hotdog", "0000", "train", "test")
    move(photos, "hotdog", "0100", "validation", "test")
    for name in ("0202", "0203"):  # hotdogs are left that it learnt from, or was chosen by, and others that it was not
        (photos / "test" / "hotdog" / f"{name}.jpg").unlink()
    mixed = prepare(photos, photos.parent / "mixed")
    candidate = make_candidate(photos.parent, mixed, 1)
    second = candidate.with_lineage(stages=({"chosen_by": "accuracy"},)).publish(models)
    assert "test accuracy 1.0000 against 0.0000 of v0001" in Manifest.open(second).reason  # over all six 4/6 and 2/6

    shutil.rmtree(second)
    promote(first)
    clear(photos, "test")
    move(photos, "hotdog", "0001", "train", "test")
    move(photos, "not_hotdog", "0100", "validation", "test")
    candidate = make_candidate(photos.parent, prepare(photos, photos.parent / "known"), 1)
    third = candidate.publish(models)
    assert Manifest.open(third).reason == "v0001 was made from all of these test images, so it cannot be compared."
    assert champion(models / "food") == third


def test_validation_images_are_compared_on_where_there_are_no_others(photos: Path, models: Path) -> None:
    tested = make_candidate(photos.parent / "tested", prepare(photos, photos.parent / "one"), 0)
    shutil.rmtree(photos / "test")
    untested = prepare(photos, photos.parent / "two")
    hotdog, other = (make_candidate(photos.parent / "untested", untested, always) for always in (0, 1))
    hotdog.publish(models)
    second = other.publish(models)
    assert "Worse than the champion: validation F1 0.0000 against 0.6667 of v0001" in Manifest.open(second).reason
    tested.publish(models / "more")  # it may have learnt from its validation images: it had others
    third = other.publish(models / "more")
    assert (
        Manifest.open(third).reason == "v0001 was made from all of these validation images, so it cannot be compared."
    )


def test_other_classes_cannot_be_compared(hotdog: Made, other: Made, models: Path) -> None:
    edit(hotdog.publish(models), classes=("cat", "dog"))
    second = other.publish(models)
    assert Manifest.open(second).reason == "The classes changed, so v0001 cannot be compared."
    assert champion(models / "food") == second


def flip(file: Path) -> None:
    """Alter one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


ANSWERING = ("squeezenet-symbol.json", "squeezenet-0000.params", "squeezenet.onnx", "classes.json")


@pytest.mark.parametrize("name", ["README.md", "curves.png", "images.parquet", "metrics.json"])
def test_champion_with_an_altered_side_file_must_be_beaten(
    hotdog: Made, other: Made, models: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    first = hotdog.publish(models)
    flip(first / name)
    second = other.publish(models)
    assert "Worse than the champion: test F1 0.0000 against 0.6667" in Manifest.open(second).reason
    assert champion(models / "food") == first
    assert f"{first}: altered or deleted since it was published: {name}" in caplog.text


@pytest.mark.parametrize("name", [*ANSWERING, "manifest.json"])
@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["altered", "deleted"])
def test_without_an_intact_champion_nothing_is_promoted_unless_asked(
    hotdog: Made, other: Made, models: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(hotdog.publish(models) / name)
    second = other.publish(models)
    assert second.name == "v0002" and not Manifest.open(second).promoted
    assert Manifest.open(second).reason.startswith("No version that was promoted is intact, so there is no champion")
    assert other.publish(models) == second and standing_champion(models / "food") is None
    third = other.publish(models, promote="always")
    assert third.name == "v0003" and Manifest.open(third).promoted
    assert champion(models / "food") == third
    assert "against 0.0000 of v0003" in Manifest.open(hotdog.publish(models)).reason


@pytest.mark.parametrize("name", ANSWERING)
def test_candidate_must_beat_the_newest_promoted_version_that_is_intact(
    hotdog: Made, equal: Made, other: Made, models: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    first, second = hotdog.publish(models), equal.publish(models)
    flip(second / name)
    third = other.publish(models)
    assert "Worse than the champion: test F1 0.0000 against 0.6667 of v0001" in Manifest.open(third).reason
    assert champion(models / "food") == first
    assert f"{second} was altered since it was published" in caplog.text and "The champion is v0001" in caplog.text


def test_network_whose_champion_was_damaged_takes_its_place(hotdog: Made, other: Made, models: Path) -> None:
    flip(hotdog.publish(models) / ANSWERING[1])
    other.publish(models)
    third = hotdog.publish(models)
    assert Manifest.open(third).reason == "It is the network of v0001, whose files were altered since."
    assert third.name == "v0003" and champion(models / "food") == third


def test_promotion_without_comparison_lasts(hotdog: Made, other: Made, models: Path) -> None:
    first = hotdog.publish(models)
    second = other.publish(models)
    third = other.publish(models, promote="always")  # what v0002 says of itself is not edited
    assert [Manifest.open(each).promoted for each in (first, second, third)] == [True, False, True]
    (models / "food" / "champion.json").unlink()
    assert other.publish(models) == second and champion(models / "food") == third
    assert hotdog.publish(models) == first and champion(models / "food") == third
    assert hotdog.publish(models, promote="always") == first == champion(models / "food")


# ---- what was damaged


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b"null", b"\xff", b'{"version": "../v0001"}', b"[" * 10**5]
)
def test_damaged_champion_file_is_restored(
    hotdog: Made, equal: Made, other: Made, models: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    hotdog.publish(models)
    second, third = equal.publish(models), other.publish(models)
    file = models / "food" / "champion.json"
    file.unlink() if content is None else file.write_bytes(content)
    assert find_champion(models, "food") == second
    assert other.publish(models) == third and champion(models / "food") == second
    assert "The champion is v0002, the newest intact version that was promoted." in caplog.text


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)], ids=["dir", "fifo", "loop"]
)
def test_what_is_no_file_is_never_opened(hotdog: Made, models: Path, make: Callable[[Path], None]) -> None:
    first = hotdog.publish(models)
    file = models / "food" / "champion.json"
    file.unlink()
    make(file)
    assert hotdog.publish(models) == first == champion(models / "food") == find_champion(models, "food")
    (first / "manifest.json").unlink()
    make(first / "manifest.json")
    assert hotdog.publish(models).name == "v0002" and (models / "food" / "damaged-v0001").is_dir()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def lose_files(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"files": {}}), encoding="utf-8")


@pytest.mark.parametrize("damage", [Path.unlink, empty, cut, flip, lose_files])
def test_version_without_a_whole_manifest_is_set_aside(
    hotdog: Made,
    equal: Made,
    other: Made,
    models: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    first, second = hotdog.publish(models), equal.publish(models)
    damage(second / "manifest.json")
    third = other.publish(models)
    assert {path.name for path in (models / "food").iterdir()} == {"v0001", "damaged-v0002", "v0003", "champion.json"}
    assert third.name == "v0003" and champion(models / "food") == first
    assert f"{second}: its manifest.json" in caplog.text and "set aside as damaged-v0002" in caplog.text
    assert (models / "food" / "damaged-v0002" / "squeezenet.onnx").exists()
    damage(third / "manifest.json")
    third.rename(second)  # as if a copy had been put back
    assert equal.publish(models).name == "v0003"
    assert (models / "food" / "damaged-v0002-1").is_dir()


def test_manifest_of_another_release_is_left_where_it_is(
    hotdog: Made, other: Made, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = hotdog.publish(models)
    (first / "manifest.json").write_text('{"name": "food"}')
    assert other.publish(models).name == "v0002" and first.is_dir()
    assert f"{first}: is left out, as its manifest is of another release" in caplog.text


# ---- whose model it is


def at(candidate: Made, place: str) -> Made:
    """The same candidate of data at another place."""
    return candidate.with_lineage(
        data=candidate.lineage.data.model_copy(
            update={"place": place, "digest": f"{place} {candidate.dataset.digest()}"}
        )
    )


def test_two_sources_of_one_name_do_not_share_a_champion(hotdog: Made, photos: Path, models: Path) -> None:
    first = at(hotdog, "/a/photos").publish(models)
    for label in ("hotdog", "not_hotdog"):
        for split in ("train", "validation", "test"):
            shutil.rmtree(photos / split / label)
    write_images(photos / "train", 4, first=300)
    write_images(photos / "validation", 2, first=400)
    others = make_candidate(photos.parent / "others", prepare(photos, photos.parent / "others"), 0)
    with pytest.raises(
        UserError, match=r"name food: .* v0001 was made from /a/photos, and /b/photos has not one image"
    ):
        at(others, "/b/photos").publish(models)
    assert at(others, "/a/photos").publish(models).name == "v0002"  # all photos there were replaced
    assert at(others, "/b/photos").publish(models / "elsewhere").name == "v0001"
    for split in ("train", "validation"):
        (photos / split / "hotdog").rename(photos / split / "cat")
    cats = make_candidate(photos.parent / "cats", prepare(photos, photos.parent / "cats"), 0)
    with pytest.raises(UserError, match=r"has other classes \(cat, not_hotdog instead of hotdog, not_hotdog\): give"):
        at(cats, "/c/photos").publish(models)
    assert champion(models / "food") != first
    asked = at(cats, "/c/photos").publish(models, promote="always")
    assert champion(models / "food") == asked


def test_source_that_was_moved_is_still_the_same(hotdog: Made, other: Made, models: Path) -> None:
    first = at(hotdog, "/a/photos").publish(models)
    second = at(other, "/b/photos").publish(models)
    assert champion(models / "food") == first
    assert Manifest.open(second).reason.endswith(" The data was at /a/photos when v0001 was made.")


# ---- what is published


def test_same_candidate_is_published_once(hotdog: Made, models: Path) -> None:
    assert hotdog.publish(models) == hotdog.publish(models) == models / "food" / "v0001"
    assert hotdog.of_other_data().publish(models).name == "v0002"


def test_altered_version_is_followed_by_another(hotdog: Made, models: Path) -> None:
    first = hotdog.publish(models)
    (first / "squeezenet.onnx").write_bytes(b"altered")
    second = hotdog.publish(models)
    assert second.name == "v0002" and champion(models / "food") == second
    assert (first / "squeezenet.onnx").read_bytes() == b"altered"


def test_earlier_version_does_not_replace_the_champion(hotdog: Made, equal: Made, models: Path) -> None:
    first, second = hotdog.publish(models), equal.publish(models)
    assert hotdog.publish(models) == first and champion(models / "food") == second


def test_report_of_another_checkpoint_is_refused(hotdog: Made, equal: Made, models: Path) -> None:
    with pytest.raises(ValueError, match="is a report of another checkpoint"):
        hotdog.publish(models, checkpoint=equal.checkpoint)
    assert not (models / "food").exists()


def test_same_network_of_another_comparison_is_published_anew(hotdog: Made, tmp_path: Path, models: Path) -> None:
    report = shutil.copytree(hotdog.report, tmp_path / "report")
    row = {name: 0.0 for name, field in ComparisonRow.model_fields.items() if field.annotation is float}
    rows = [ComparisonRow(**row | {"architecture": name, "parameters": 1}) for name in ("vgg", "alexnet")]
    for number in (1, 2):
        found = Comparison(best="vgg", split="test", caveats=(), rows=tuple(rows[:number]))
        (report / "comparison.json").write_text(found.model_dump_json())
        made = [replace(hotdog, report=report).publish(models) for _ in range(2)]
        assert [version.name for version in made] == [f"v000{number}"] * 2
        assert Comparison.open(made[0]) == found


def test_manifest_says_what_was_published(hotdog: Made, models: Path) -> None:
    noted = hotdog.with_lineage(notes=("Mind the gap.",), seed=7)
    version = noted.publish(models)
    manifest = Manifest.open(version)
    assert manifest.files == {
        path.name: file_digest(path) for path in version.iterdir() if path.name != "manifest.json"
    }
    assert (manifest.name, manifest.version, manifest.classes) == ("food", "v0001", ("hotdog", "not_hotdog"))
    assert manifest.lineage == noted.lineage and manifest.positive == "hotdog"
    assert manifest.checkpoint == file_digest(noted.checkpoint / "checkpoint.npz")
    assert {"numpy", "pillow", "pyarrow"} < set(manifest.software)
    for report in hotdog.report.iterdir():
        assert (version / report.name).read_bytes() == report.read_bytes()


def test_images_are_listed_with_their_splits(hotdog: Made, models: Path, photos: Path) -> None:
    version, dataset = hotdog.publish(models), hotdog.dataset
    rows = pq.read_table(version / "images.parquet").to_pylist()
    assert len(rows) == 32 and {row["split"] for row in rows} == {"train", "validation", "test"}
    for row in rows:
        assert row["image"].split("/")[:2] == [row["split"], row["label"]]
    assert [row["id"] for row in rows if row["split"] == "test"] == dataset.ids_and_labels("test")[0]

    assert new_images(dataset, version) == 0
    write_images(photos / "train", 2, first=50, labels=("hotdog",))
    (photos / "train" / "not_hotdog" / "0000.jpg").rename(photos / "train" / "not_hotdog" / "renamed.jpg")
    (photos / "train" / "not_hotdog" / "0001.jpg").unlink()
    assert new_images(prepare(photos, photos.parent / "more"), version) == 2


# ---- what was interrupted


def test_promotion_that_was_interrupted_is_made_up_for(hotdog: Made, other: Made, models: Path) -> None:
    worse, better = other.publish(models), hotdog.publish(models)
    promote(worse)  # as if the process had been killed before it promoted the other
    assert other.publish(models) == worse == champion(models / "food")
    assert hotdog.publish(models) == better == champion(models / "food")
    assert other.publish(models) == worse and champion(models / "food") == better


def test_number_of_a_champion_that_was_deleted_is_not_used_again(hotdog: Made, other: Made, models: Path) -> None:
    shutil.rmtree(hotdog.publish(models))
    second = other.publish(models)
    assert second.name == "v0002" and not Manifest.open(second).promoted
    with pytest.raises(UserError, match=r"none of its versions is the champion and can answer"):
        find_champion(models, "food")


def test_two_runs_publish_one_after_the_other(hotdog: Made, other: Made, models: Path) -> None:
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda candidate: candidate.publish(models), (hotdog, other)))
    assert sorted(path.name for path in made) == ["v0001", "v0002"]
    assert champion(models / "food") == made[0]  # the hotdogs' is better, be it first or second


STOP_INSIDE = """
import pickle, sys, time
from pathlib import Path
from cnn.publication import publishing

def stop(*arguments):
    print("inside", flush=True)
    time.sleep(60)

publishing.model_card = stop
candidate, models = pickle.loads(sys.stdin.buffer.read())
publishing.publish(**candidate, name="food", models=models)
"""


def test_killed_publication_leaves_nothing_behind(hotdog: Made, models: Path) -> None:
    command, pipe = [sys.executable, "-c", STOP_INSIDE], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        assert process.stdin and process.stdout
        process.stdin.write(pickle.dumps((vars(hotdog), models)))
        process.stdin.close()
        assert process.stdout.readline() == b"inside\n"
        process.kill()
    (left,) = (models / "food").iterdir()  # beside its place, with almost everything in it
    assert left.name.startswith(".v0001.") and (left / "squeezenet.onnx").exists()
    assert champion(models / "food") is None
    assert not versions(models / "food")
    version = hotdog.publish(models)
    assert version.name == "v0001" and champion(models / "food") == version
    assert {path.name for path in (models / "food").iterdir()} == {"v0001", "champion.json"}
