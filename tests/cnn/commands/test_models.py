"""``python -m cnn models``: what it lists, what it changes, and what it refuses."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from candidates import Made, edit, equal, exported_once, flip_bit, hotdog, models, other  # noqa: F401  (fixtures)

from cnn.__main__ import main
from cnn.publication.champions import champion
from cnn.publication.inventory import prunable
from cnn.publication.manifest import Manifest
from cnn.support.errors import UserError


@pytest.fixture(scope="module")
def three(hotdog: Made, equal: Made, other: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with three versions, of which the second is the champion and the third is worse."""
    folder = tmp_path_factory.mktemp("three")
    for candidate in (hotdog, equal, other):
        candidate.publish(folder)
    return folder / "food"


@pytest.fixture
def food(three: Path, models: Path) -> Path:
    """A copy of that model."""
    return shutil.copytree(three, models / "food")


@pytest.fixture
def said(models: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run ``python -m cnn models`` and return what it prints, as JSON if it is asked for."""

    def run(command: str, *arguments: str, as_json: bool = True) -> Any:
        capsys.readouterr()
        main(["models", command, "--models", str(models), *arguments, *(["--json"] if as_json else [])])
        printed = capsys.readouterr().out
        return json.loads(printed) if as_json else printed

    return run


def test_list_marks_the_champion(food: Path, said: Any) -> None:
    rows = said("list")
    assert [row["version"] for row in rows] == ["v0003", "v0002 (champion)", "v0001"]
    assert {row["model"] for row in rows} == {"food"} and rows == said("list", "--name", "food")
    assert "v0002 (champion)" in said("list", as_json=False)


def test_show_says_what_the_manifest_says(food: Path, said: Any) -> None:
    assert said("show", "v0002")["checkpoint"] == Manifest.open(food / "v0002").checkpoint
    text = said("show", "v0003", as_json=False)
    assert "Worse than the champion v0002" in text and "as they were published" in text
    flip_bit(food / "v0003" / "README.md")
    assert "README.md was altered" in said("show", "v0003", as_json=False)


def test_compare_names_the_images_that_differ(food: Path, said: Any) -> None:
    found = said("compare", "v0001", "v0003")
    assert found["split"] == "test" and found["paired"]["difference"] == pytest.approx(-2 / 3)
    assert len(found["images"]) == found["paired"]["images"] == 8  # the one says always, the other never: hotdog
    for row in found["images"]:
        assert row["image"].split("/")[1] == row["label"]
        assert (row["v0001"].split()[0], row["v0003"].split()[0]) == ("hotdog", "not_hotdog")
    assert not said("compare", "v0001", "v0002")["images"]
    text = said("compare", "v0001", "v0003", as_json=False)
    assert text.startswith("v0003 against v0001: test F1 0.0000 against 0.6667 on the same 8 images")
    flip_bit(food / "v0001" / "predictions-test.parquet")
    with pytest.raises(UserError, match=r"predictions-test\.parquet: it was altered since v0001 was published"):
        said("compare", "v0001", "v0003")
    edit(food / "v0003", classes=("cat", "dog"))
    with pytest.raises(UserError, match="they have other classes"):
        said("compare", "v0001", "v0003")


def test_promoted_by_hand_stays_until_something_newer_is_published(
    food: Path, said: Any, hotdog: Made, equal: Made, models: Path
) -> None:
    said("promote", "v0001")
    assert champion(food) == food / "v0001" and "@" in json.loads((food / "champion.json").read_text())["by"]
    assert equal.publish(models) == food / "v0002" and champion(food) == food / "v0001"
    newer = hotdog.of_other_data().publish(models)
    assert champion(food) == newer == food / "v0004"


def test_rollback_goes_back_step_by_step(food: Path, said: Any, equal: Made, models: Path) -> None:
    said("promote", "v0003")
    assert said("rollback") == {"champion": "v0002"} and champion(food) == food / "v0002"
    assert equal.publish(models) == food / "v0002"
    assert said("rollback") == {"champion": "v0001"}
    with pytest.raises(UserError, match="no champion before the present one"):
        said("rollback")
    assert champion(food) == food / "v0001"


def test_rollback_without_a_record_takes_the_older_version_that_was_promoted(food: Path, said: Any) -> None:
    entry = json.loads((food / "champion.json").read_text())
    (food / "champion.json").write_text(
        json.dumps({name: entry[name] for name in entry if name not in ("by", "former")})
    )
    assert said("rollback") == {"champion": "v0001"}


def test_altered_version_is_neither_promoted_nor_verified(food: Path, said: Any) -> None:
    assert {row["found"] for row in said("verify")} == {"as it was published"}
    flip_bit(food / "v0003" / "README.md")
    (food / "v0001" / "classes.json").unlink()
    for call in (("promote", "v0003"), ("rollback",), ("verify",)):
        with pytest.raises(UserError):
            said(*call)
    assert champion(food) == food / "v0002"
    with pytest.raises(UserError, match=r"food v0001, food v0003: 2 of 3 do not match their manifest"):
        said("verify", as_json=False)
    (food / "v0002" / "more.txt").write_text("more")
    with pytest.raises(UserError, match="3 of 3"):
        said("verify")


def test_prune_keeps_champions_and_what_is_young(food: Path, said: Any) -> None:
    for number in range(4, 9):
        shutil.copytree(food / "v0003", food / f"v{number:04d}")
    later = datetime.now(UTC) + timedelta(days=31)
    assert prunable(food, keep=1, keep_days=30) == []
    assert [path.name for path in prunable(food, 3, 30, later)] == ["v0003", "v0004", "v0005"]
    flags = ("--keep", "2", "--keep-days", "0")
    listed = said("prune", *flags)
    assert [row["version"] for row in listed] == ["v0003", "v0004", "v0005", "v0006"] and (food / "v0003").exists()
    assert "4 versions of food; to delete them, add --delete" in said("prune", *flags, as_json=False)
    assert said("prune", *flags, "--delete") == listed
    left = {"v0001", "v0002", "v0007", "v0008", "champion.json"}  # to v0001 a rollback leads
    assert {path.name for path in food.iterdir()} == left and champion(food) == food / "v0002"
    assert said("prune", *flags) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "v0009"), r"food v0009: there is no such version; expected one of: v0001, v0002, v0003\."),
        (("promote", "2"), r"food 2: there is no such version"),
        (("list", "--name", "drink"), r"no model 'drink' is published there; expected one of: food\."),
    ],
)
def test_unknown_names_are_answered_with_the_choices(
    food: Path, said: Any, arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        said(*arguments)


@pytest.mark.parametrize("flags", [("--keep", "0"), ("--keep-days", "-1"), ("--keep", "many")])
def test_prune_refuses_odd_numbers(food: Path, said: Any, flags: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        said("prune", *flags)


def test_command_is_asked_for() -> None:
    with pytest.raises(UserError, match="choose one of list, show, compare, promote, rollback, prune, verify"):
        main(["models"])
