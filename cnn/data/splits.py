"""Which split each image goes to: as its source says, or by a hash of its content, so that it never moves."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnn.data.datasets import Conflict, Duplicate, LeftOut

#: Shares of the images that become test and validation if the source has no split.
TEST_SHARE, VALIDATION_SHARE = 0.15, 0.15


def position(image_id: str) -> float:
    """Where an image stands in 0…1 by its id; images are evenly distributed.

    >>> position("00" * 32), position("80" + "00" * 31)
    (0.0, 0.5)
    """
    return int(image_id[:8], 16) / 2**32


def divide(ids: Iterable[str], ends: Mapping[str, float]) -> dict[str, str]:
    """The split of each image of one class: that whose end, 0…1, is the first beyond its position, or else train.

    A split that would get none gets the next image in the order of ids, so that each has one if there are enough.

    >>> divide(["00" * 32, "40" * 32, "ff" * 32], {"test": 0.15, "validation": 0.3}) == {
    ...     "00" * 32: "test", "40" * 32: "validation", "ff" * 32: "train"}
    True
    >>> sorted(divide(["90" * 32, "a0" * 32, "b0" * 32], {"test": 0.15, "validation": 0.3}).values())
    ['test', 'train', 'validation']
    """
    ordered, start = sorted(ids), 0
    splits: dict[str, str] = {}
    for number, (split, end) in enumerate(ends.items()):
        stop = max(bisect_left(ordered, end, key=position), start + 1)
        stop = max(start, min(stop, len(ordered) - (len(ends) - number)))  # the splits after it need one each, too
        splits |= dict.fromkeys(ordered[start:stop], split)
        start = stop
    return splits | dict.fromkeys(ordered[start:], "train")


@dataclass(frozen=True)
class Found:
    """An image that can be used: its name and split in the source, its class, the digest of its pixels."""

    name: str
    split: str | None
    label: str
    id: str


#: What becomes of an image: the name of its split, or why it is in none.
Fate = str | LeftOut | Duplicate


@dataclass(frozen=True)
class Division:
    """How a source's images are divided: the splits that it has, and what is made of them.

    With ``test_as_validation`` its test images validate. ``validation_share``, 0…1, of its training images does if it
    has no validation images.
    """

    source_splits: frozenset[str | None]
    validation_share: float
    test_as_validation: bool

    @property
    def splits(self) -> frozenset[str | None]:
        """The source's splits, its test images being called as they are used."""
        return frozenset({"train", "validation"}) if self.test_as_validation else self.source_splits

    def ends(self, split: str | None) -> dict[str, float]:
        """What is taken from a split of the source by a hash: other split → the position, 0…1, up to which it is."""
        if split is None:
            return {"test": TEST_SHARE, "validation": TEST_SHARE + VALIDATION_SHARE}
        return {"validation": self.validation_share} if split == "train" and "validation" not in self.splits else {}

    def fates(self, images: Sequence[Found]) -> list[Fate]:
        """What becomes of each image, in the order of reading; of the same image in several splits the first is kept.

        An image that has two labels in the split where it is kept is left out there, since neither can be trusted.
        """
        first: dict[str, Found] = {}
        rival: dict[str, Found] = {}  # id → an image of the same pixels and split with another label
        members: dict[tuple[str | None, str], set[str]] = defaultdict(set)
        for image in images:
            kept = first.setdefault(image.id, image)
            if image.split == kept.split and image.label != kept.label:
                rival.setdefault(image.id, image)
        for image in images:
            if image.id not in rival and image.split == first[image.id].split:
                members[image.split, image.label].add(image.id)
        assigned: dict[str, str] = {}
        for (split, _), ids in members.items():
            name = "validation" if self.test_as_validation and split == "test" else split
            ends = self.ends(name)
            assigned |= divide(ids, ends) if ends else dict.fromkeys(ids, str(name))
        return [_fate(image, first[image.id], rival.get(image.id), assigned) for image in images]

    def origin(self) -> str:
        """How the dataset's splits were made, as a sentence or two."""
        by_content = "chosen by a hash of each image's content"
        if self.test_as_validation:
            return "Train is the source's own."
        if None in self.splits:
            shares = f"{TEST_SHARE:.0%} of the images became test and {VALIDATION_SHARE:.0%} validation"
            return f"The source has no split: {shares}, {by_content}."
        if "validation" not in self.splits:
            share = f"{100 * self.validation_share:g}% of train"
            return f"Train and test are the source's own; {share} became validation, {by_content}."
        if "test" not in self.splits:
            return "Train and validation are the source's own; it has no test split, so there are no test figures."
        return "Train, validation and test are the source's own."

    def caveats(self) -> tuple[str, ...]:
        """What a reader of any figure must know about the splits."""
        if not self.test_as_validation:
            return ()
        return ("As in the notebook, the source's test images served as validation: the model was chosen by them.",)


def _fate(image: Found, first: Found, rival: Found | None, assigned: Mapping[str, str]) -> Fate:
    if image.split != first.split:
        return Duplicate(name=image.name, same_as=first.name)
    if rival:
        other = first if image.label != first.label else rival
        return LeftOut(name=image.name, reason=f"the same image is also labelled {other.label!r} ({other.name})")
    return assigned[image.id]


def exact_conflicts(images: Iterable[Found]) -> list[Conflict]:
    """Each image whose pixels are those of an earlier one of another class."""
    first: dict[str, Found] = {}
    pairs = ((image, first.setdefault(image.id, image)) for image in images)
    return [conflict(image, other, is_exact=True) for image, other in pairs if image.label != other.label]


def conflict(image: Found, other: Found, *, is_exact: bool) -> Conflict:
    """That two images of different classes are the same, or nearly."""
    labels = {"label": image.label, "other_label": other.label}
    return Conflict(name=image.name, same_as=other.name, is_exact=is_exact, **labels)
