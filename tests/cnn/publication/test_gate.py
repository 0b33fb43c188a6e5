"""The gate: which candidate becomes the champion, and whose model it is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from candidates import Made, edit, equal, flip_bit, hotdog, make_candidate, measure_f1, models, other, photos  # noqa: F401  (fixtures)
from conftest import write_images

from cnn.data.preparation import prepare
from cnn.publication.champions import champion, promote, standing_champion
from cnn.publication.manifest import Manifest
from cnn.publication.versions import versions
from cnn.support.errors import UserError


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


ANSWERING = ("squeezenet-symbol.json", "squeezenet-0000.params", "squeezenet.onnx", "classes.json")


@pytest.mark.parametrize("name", ["README.md", "curves.png", "images.parquet", "metrics.json"])
def test_champion_with_an_altered_side_file_must_be_beaten(
    hotdog: Made, other: Made, models: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    first = hotdog.publish(models)
    flip_bit(first / name)
    second = other.publish(models)
    assert "Worse than the champion: test F1 0.0000 against 0.6667" in Manifest.open(second).reason
    assert champion(models / "food") == first
    assert f"{first}: altered or deleted since it was published: {name}" in caplog.text


@pytest.mark.parametrize("name", [*ANSWERING, "manifest.json"])
@pytest.mark.parametrize("damage", [flip_bit, Path.unlink], ids=["altered", "deleted"])
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
    flip_bit(second / name)
    third = other.publish(models)
    assert "Worse than the champion: test F1 0.0000 against 0.6667 of v0001" in Manifest.open(third).reason
    assert champion(models / "food") == first
    assert f"{second} was altered since it was published" in caplog.text and "The champion is v0001" in caplog.text


def test_network_whose_champion_was_damaged_takes_its_place(hotdog: Made, other: Made, models: Path) -> None:
    flip_bit(hotdog.publish(models) / ANSWERING[1])
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
