"""Which split each image goes to."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn.data.datasets import Duplicate, LeftOut
from cnn.data.splits import Division, Found, divide, exact_conflicts

UNSPLIT = Division(frozenset({None}), 0.2, False).ends(None)
FIRST = {"validation": 0.2}
ORDER = ("test", "validation", "train")
IDS = st.sets(st.integers(0, 2**32 - 1).map(lambda start: f"{start:08x}" + "0" * 56), min_size=3, max_size=40)


def test_splits_have_their_shares() -> None:
    rng = random.Random(0)
    ids = [f"{rng.getrandbits(256):064x}" for _ in range(20_000)]
    unsplit = Counter(divide(ids, UNSPLIT).values())
    assert unsplit["test"] / 20_000 == pytest.approx(0.15, abs=0.01)
    assert unsplit["validation"] / 20_000 == pytest.approx(0.15, abs=0.01)
    assert Counter(divide(ids, {"validation": 0.4}).values())["validation"] / 20_000 == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(
    ("start", "expected"),
    [  # 0.15 and 0.3 of 2³² are 26666666.6… and 4ccccccc.c… in hexadecimal
        ("00000001", "test"),
        ("26666666", "test"),
        ("26666667", "validation"),
        ("4ccccccc", "validation"),
        ("4ccccccd", "train"),
        ("fffffffe", "train"),
    ],
)
def test_the_position_decides(start: str, expected: str) -> None:
    others = {first * 64 for first in "03f"}  # one for each split
    assert divide({*others, start + "f" * 56}, UNSPLIT)[start + "f" * 56] == expected


@given(ids=IDS, ends=st.sampled_from([UNSPLIT, FIRST]))
def test_each_split_has_an_image_and_ids_are_in_order(ids: set[str], ends: dict[str, float]) -> None:
    splits = divide(ids, ends)
    assert splits.keys() == ids
    assert set(splits.values()) == {*ends, "train"}
    assert [splits[each] for each in sorted(ids)] == sorted(splits.values(), key=ORDER.index)


@given(ids=IDS, ends=st.sampled_from([UNSPLIT, FIRST]))
def test_only_a_split_that_would_be_empty_takes_another_image(ids: set[str], ends: dict[str, float]) -> None:
    by_position = {
        each: next((s for s, end in ends.items() if int(each[:8], 16) < end * 2**32), "train") for each in ids
    }
    splits, natural = divide(ids, ends), Counter(by_position.values())
    missing = {split for split in (*ends, "train") if not natural[split]}
    assert bool(missing) or splits == by_position
    moved = [each for each in ids if splits[each] != by_position[each]]
    assert len(moved) <= len(ends) * len(missing)


@given(ids=IDS, added=IDS, ends=st.sampled_from([UNSPLIT, FIRST]))
def test_an_added_image_moves_one_at_a_border_at_most(ids: set[str], added: set[str], ends: dict[str, float]) -> None:
    for new in added:
        before, after = divide(ids, ends), divide({*ids, new}, ends)
        moved = [each for each in ids if before[each] != after[each]]
        assert len(moved) <= len(ends)
        natural = Counter(next((s for s, end in ends.items() if int(i[:8], 16) < end * 2**32), "train") for i in ids)
        assert not moved or len(natural) <= len(ends)  # some split had no image of its own
        ids = {*ids, new}


@given(ids=st.sets(st.integers(0, 2**32 - 1).map(lambda start: f"{start:08x}" + "0" * 56), max_size=2))
def test_too_few_are_no_error_but_train_comes_first(ids: set[str]) -> None:
    counts = Counter(divide(ids, UNSPLIT).values())
    assert counts["train"] == min(1, len(ids)) and counts["test"] == 0


# ---- one image several times


def found(*rows: tuple[str, str | None, str, str]) -> list[Found]:
    return [Found(name, split, label, image_id * 64) for name, split, label, image_id in rows]


def test_an_image_with_two_labels_is_in_no_split() -> None:
    many = [(f"{n}", None, "ab"[n % 2], "0123456789abcdef"[n]) for n in range(16)]
    images = found(*many, ("copy of 3", None, "a", "3"), ("copy of 4", None, "a", "4"))
    fates = Division(frozenset({None}), 0.2, False).fates(images)
    assert fates[3] == LeftOut(name="3", reason="the same image is also labelled 'a' (copy of 3)")
    assert fates[16] == LeftOut(name="copy of 3", reason="the same image is also labelled 'b' (3)")
    assert fates[17] == fates[4] in ORDER
    assert all(isinstance(fate, str) for number, fate in enumerate(fates) if number not in (3, 16))
    (conflict,) = exact_conflicts(images)
    assert (conflict.name, conflict.label, conflict.same_as, conflict.other_label) == ("copy of 3", "a", "3", "b")


@pytest.mark.parametrize("test_as_validation", [False, True])
def test_a_split_that_must_stay_untouched_keeps_its_label(test_as_validation: bool) -> None:
    division = Division(frozenset({"train", "test"}), 0.2, test_as_validation)
    images = found(
        ("t", "test", "a", "0"), ("x", "train", "b", "0"), ("y", "train", "b", "1"), ("z", "train", "b", "2")
    )
    kept = "validation" if test_as_validation else "test"
    assert division.fates(images)[:2] == [kept, Duplicate(name="x", same_as="t")]
    assert [each.name for each in exact_conflicts(images)] == ["x"]
