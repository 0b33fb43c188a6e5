"""The gate: which candidate becomes the champion, and whose model it is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from candidates import Made, edit, equal, exported_once, flip_bit, hotdog, make_candidate, models, other, photos  # noqa: F401  (fixtures)
from conftest import write_images
from hypothesis import given
from hypothesis import strategies as st

from cnn.data.preparation import prepare
from cnn.evaluation.paired import compare_paired
from cnn.publication.champions import champion, promote, standing_champion
from cnn.publication.gate import permits
from cnn.publication.manifest import Manifest, versions
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
    manifest = Manifest.open(third)
    assert not manifest.promoted and manifest.judgement
    assert manifest.reason == (
        "Worse than the champion v0002: test F1 0.0000 against 0.6667 on the same 8 images, difference -0.6667 (95 % "
        "interval -0.6667 to -0.6667), answers gained: 4, lost: 4, p 1. 8 images are too few to tell: a single answer "
        "counts for more than the margin."
    )
    assert manifest.judgement.champion == "v0002" and manifest.judgement.paired.images == 8


def test_same_answers_are_promoted_as_not_worse_only(hotdog: Made, equal: Made, models: Path) -> None:
    hotdog.publish(models)
    second = equal.publish(models, promote="better")
    assert not Manifest.open(second).promoted
    assert Manifest.open(second).reason.startswith("Not shown to be better than the champion v0001: test F1 0.6667")
    third = equal.publish(models, margin=0.0)
    assert third.name == "v0003" and champion(models / "food") == third  # another rule judges anew
    assert Manifest.open(third).reason.startswith("Not worse than the champion v0001: test F1 0.6667 against 0.6667")
    assert equal.publish(models, margin=0.0) == third


def test_never_is_left_to_the_user(hotdog: Made, equal: Made, models: Path) -> None:
    first = hotdog.publish(models, promote="never")
    assert champion(models / "food") is None and "python -m cnn models promote" in Manifest.open(first).reason
    promote(first, by="somebody")
    second = equal.publish(models, promote="never")
    assert champion(models / "food") == first and Manifest.open(second).judgement
    assert "Promote is set to never" in Manifest.open(second).reason


ANSWERS = st.integers(0, 40)


@given(ANSWERS, ANSWERS, ANSWERS, st.floats(0, 1))
def test_rules_are_ordered(both: int, gained: int, lost: int, margin: float) -> None:
    right = np.repeat([[1, 1], [1, 0], [0, 1]], (both + 1, gained, lost), axis=0)
    labels = np.ones(len(right), int)
    found = compare_paired(labels, right[:, 0], right[:, 1], classes=2, positive=None, figure="accuracy")
    promoted = [permits(found, "better", margin), permits(found, "not-worse", 0), permits(found, "not-worse", margin)]
    assert promoted == sorted(promoted)  # who is better is not worse, and a greater margin lets more pass
    assert permits(found, "always", margin) and not permits(found, "never", margin)
    if gained + lost <= 5:
        assert not permits(found, "better", margin)  # five tosses that fall the same way may be chance
    if found.difference < -margin:
        assert not any(promoted)


def test_gate_compares_by_the_recipes_metric(hotdog: Made, other: Made, models: Path) -> None:
    hotdog.publish(models)
    second = other.with_lineage(stages=({"chosen_by": "accuracy"},)).publish(models)
    assert "test accuracy 0.5000 against 0.5000" in Manifest.open(second).reason
    assert champion(models / "food") == second


def test_champion_answers_anew_what_it_was_not_asked(hotdog: Made, other: Made, photos: Path, models: Path) -> None:
    first = hotdog.publish(models)
    (first / "predictions-test.parquet").unlink()
    second = other.publish(models)
    assert "0.0000 against 0.6667" in Manifest.open(second).reason
    write_images(photos / "test", 2, first=900, labels=("hotdog",))
    more = make_candidate(photos.parent, prepare(photos, photos.parent / "more"), 1).publish(models)
    assert "F1 0.0000 against 0.7500 on the same 10 images" in Manifest.open(more).reason


def test_both_are_judged_by_corrected_labels(hotdog: Made, photos: Path, models: Path) -> None:
    hotdog.publish(models)
    for name in ("0200", "0201"):
        (photos / "test" / "not_hotdog" / f"{name}.jpg").rename(photos / "test" / "hotdog" / f"9{name}.jpg")
    corrected = make_candidate(photos.parent, prepare(photos, photos.parent / "corrected"), 0, bias=2)
    second = corrected.publish(models)
    assert "test F1 0.8571 against 0.8571 on the same 8 images" in Manifest.open(second).reason
    assert champion(models / "food") == second


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
    assert (
        "test accuracy 1.0000 against 0.0000 on the same 4 images" in Manifest.open(second).reason
    )  # over all six 4/6 and 2/6

    shutil.rmtree(second)
    promote(first)
    clear(photos, "test")
    move(photos, "hotdog", "0001", "train", "test")
    move(photos, "not_hotdog", "0100", "validation", "test")
    candidate = make_candidate(photos.parent, prepare(photos, photos.parent / "known"), 1)
    third = candidate.publish(models)
    assert Manifest.open(third).reason.startswith("v0001 was made from all of these test images, so it cannot be")
    assert champion(models / "food") == first


def test_validation_images_are_compared_on_where_there_are_no_others(photos: Path, models: Path) -> None:
    tested = make_candidate(photos.parent / "tested", prepare(photos, photos.parent / "one"), 0)
    shutil.rmtree(photos / "test")
    untested = prepare(photos, photos.parent / "two")
    hotdog, other = (make_candidate(photos.parent / "untested", untested, always) for always in (0, 1))
    hotdog.publish(models)
    second = other.publish(models)
    assert "Worse than the champion v0001: validation F1 0.0000 against 0.6667" in Manifest.open(second).reason
    tested.publish(models / "more")  # it may have learnt from its validation images: it had others
    third = other.publish(models / "more")
    assert Manifest.open(third).reason.startswith("v0001 was made from all of these validation images, so it cannot")


def test_other_classes_cannot_be_compared(hotdog: Made, other: Made, models: Path) -> None:
    first = hotdog.publish(models)
    edit(first, classes=("cat", "dog"))
    second = other.publish(models)
    assert Manifest.open(second).reason.startswith("The classes changed, so v0001 cannot be compared: to make this")
    assert champion(models / "food") == first
    third = other.publish(models, promote="always")
    assert champion(models / "food") == third


ANSWERING = ("squeezenet-symbol.json", "squeezenet-0000.params", "squeezenet.onnx", "classes.json")


@pytest.mark.parametrize("name", ["README.md", "curves.png", "images.parquet", "metrics.json"])
def test_champion_with_an_altered_side_file_must_be_beaten(
    hotdog: Made, other: Made, models: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    first = hotdog.publish(models)
    flip_bit(first / name)
    second = other.publish(models)
    assert "Worse than the champion v0001: test F1 0.0000 against 0.6667" in Manifest.open(second).reason
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
    assert "the champion v0003: test F1 0.6667 against 0.0000" in Manifest.open(hotdog.publish(models)).reason


@pytest.mark.parametrize("name", ANSWERING)
def test_candidate_must_beat_the_newest_promoted_version_that_is_intact(
    hotdog: Made, equal: Made, other: Made, models: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    first, second = hotdog.publish(models), equal.publish(models)
    flip_bit(second / name)
    third = other.publish(models)
    assert "Worse than the champion v0001: test F1 0.0000 against 0.6667" in Manifest.open(third).reason
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
