"""Preparing a dataset: images decoded, made alike and divided into splits that never move."""

import logging
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from cnn.data.datasets import REPORT, Dataset, Duplicate, LeftOut, Row, SplitWriter
from cnn.data.images import NotAnImageError, normalise
from cnn.data.sources import SPLITS, Source, SourceImage, open_source
from cnn.support.errors import UserError
from cnn.support.files import atomic_folder
from cnn.support.parallel import ordered_map
from cnn.support.progress import track

logger = logging.getLogger(__name__)

#: Shares of the images that become test and validation if the source has no split.
TEST_SHARE, VALIDATION_SHARE = 0.15, 0.15

_IMAGES_AHEAD = 8


def prepare(
    source: Source | str | Path,
    folder: str | Path,
    *,
    test_as_validation: bool = False,
    validation_share: float | None = None,
) -> Dataset:
    """Turn any source of labelled images into a dataset in ``folder``, replacing what is there.

    The same images under the same names give the same bytes, wherever the source is. An image is left out and listed
    if it cannot be decoded, or if the same image is in an earlier split (test, validation, train).

    Two settings are for a source that has only train and test. With ``test_as_validation`` its test images become
    the validation split, as in the notebook, and there is no test split. Otherwise ``validation_share``, 0…1, of its
    training images becomes validation; None stands for `Source.validation_share`.

    Raises:
        UserError: the source cannot be read or no classifier can be trained from it; ``folder`` is as before.
    """
    source = source if isinstance(source, Source) else open_source(source)
    counts = source.counts()
    classes = tuple(sorted({label for _, label in counts if label is not None}))
    splits = frozenset(split for split, label in counts if label is not None)
    _require_classes(source.path, classes, splits)
    share = source.validation_share if validation_share is None else validation_share
    division = _Division(splits, share, test_as_validation and splits == {"train", "test"})
    images = track(source.images(), "preparing", counts.total(), "image")
    with atomic_folder(Path(folder)) as temporary:
        dataset = _write_splits(images, temporary, classes, division)
        _require_images(source.path, dataset, division.splits)
        caveats = (*source.caveats(), *division.caveats(), *_missing_in_test(dataset))
        report = dataset.model_copy(update={"caveats": caveats}).model_dump_json(exclude={"folder"}, indent=2)
        (temporary / REPORT).write_text(report + "\n", encoding="utf-8")
    _log_left_out(dataset)
    return Dataset.open(folder)


def _log_left_out(dataset: Dataset) -> None:
    if left_out := dataset.left_out:
        logger.warning("%d images left out that cannot be used, such as %s", len(left_out), left_out[0])
    if duplicates := dataset.duplicates:
        logger.warning("%d images left out that are in another split, too, such as %s", len(duplicates), duplicates[0])


# ---- which split an image belongs to


def assign_split(image_id: str, split: str | None, splits: frozenset[str | None], validation_share: float) -> str:
    """The split of an image whose source has ``splits`` and says ``split``; it depends on no other image.

    >>> assign_split("00" * 32, None, frozenset({None}), 0.2), assign_split("ff" * 32, None, frozenset({None}), 0.2)
    ('test', 'train')
    >>> both = frozenset({"train", "test"})
    >>> assign_split("00" * 32, "train", both, 0.2), assign_split("00" * 32, "test", both, 0.2)
    ('validation', 'test')
    """
    position = int(image_id[:8], 16) / 2**32  # evenly distributed in 0…1
    if split is None:
        if position < TEST_SHARE:
            return "test"
        return "validation" if position < TEST_SHARE + VALIDATION_SHARE else "train"
    if split == "train" and "validation" not in splits and position < validation_share:
        return "validation"
    return split


@dataclass(frozen=True)
class _Division:
    """How a source's images are divided: the splits that it has, and what is made of them."""

    source_splits: frozenset[str | None]
    validation_share: float
    test_as_validation: bool

    @property
    def splits(self) -> frozenset[str | None]:
        """The source's splits, its test images being called as they are used."""
        return frozenset({"train", "validation"}) if self.test_as_validation else self.source_splits

    def split_of(self, image_id: str, split: str | None) -> str:
        if self.test_as_validation and split == "test":
            split = "validation"
        return assign_split(image_id, split, self.splits, self.validation_share)

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
        if not self.test_as_validation:
            return ()
        return ("As in the notebook, the source's test images served as validation: the model was chosen by them.",)


def _missing_in_test(dataset: Dataset) -> tuple[str, ...]:
    """A caveat if there are test images, but none of some class."""
    missing = [name for name, count in dataset.counts.get("test", {}).items() if not count]
    return (f"No test image shows {' or '.join(missing)}, so test figures say little: add images.",) if missing else ()


# ---- what is written


def _normalise(image: SourceImage) -> tuple[SourceImage, tuple[str, bytes] | str]:
    """The image with its id and the bytes to keep, or with the reason why it is left out."""
    if image.label is None:
        return image, "the source names no class for it"
    try:
        return image, normalise(image.data)
    except NotAnImageError as error:
        return image, str(error)


def _write_splits(
    images: Iterable[SourceImage], folder: Path, classes: tuple[str, ...], division: _Division
) -> Dataset:
    """Write each split's file into ``folder``; the result lists what was written and what was left out."""
    counts = {split: dict.fromkeys(classes, 0) for split in SPLITS}
    left_out, duplicates = [], []
    first: dict[str, tuple[str, str]] = {}  # id → split and name of the first image that has it
    with ExitStack() as stack:
        files: dict[str, SplitWriter] = {}
        for image, result in ordered_map(_normalise, images, ahead=_IMAGES_AHEAD):
            if isinstance(result, str) or image.label is None:
                left_out.append(LeftOut(name=image.name, reason=str(result)))
                continue
            image_id, data = result
            split = division.split_of(image_id, image.split)
            first_split, first_name = first.setdefault(image_id, (split, image.name))
            if split != first_split:
                duplicates.append(Duplicate(name=image.name, same_as=first_name))
                continue
            if split not in files:
                files[split] = stack.enter_context(closing(SplitWriter(folder / f"{split}.parquet", classes)))
            files[split].add(Row(image_id, classes.index(image.label), image.name, data))
            counts[split][image.label] += 1
    return Dataset(
        folder=folder,
        classes=classes,
        counts={split: counts[split] for split in SPLITS if split in files},
        split_origin=division.origin(),
        left_out=tuple(left_out),
        duplicates=tuple(duplicates),
    )


# ---- what is refused

_EXPECTED = "expected a folder for each class with its images inside"


def _require_classes(source: Path, classes: tuple[str, ...], splits: frozenset[str | None]) -> None:
    """Refuse, before any work, what no classifier can be trained from."""
    if not classes:
        raise UserError(f"{source}: {_EXPECTED}, found no image in such a folder: sort them into some.")
    if len(classes) == 1:
        raise UserError(f"{source}: {_EXPECTED}, found only one, {classes[0]!r}: add images of something else.")
    if not splits & {"train", None}:
        found = " and ".join(sorted(map(str, splits)))
        raise UserError(f"{source}: expected images to train on, found only {found}: add a train folder.")


def _require_images(source: Path, dataset: Dataset, splits: frozenset[str | None]) -> None:
    """Refuse a dataset in which a class has no image for training or for validation."""
    for split in ("train", "validation"):
        counts = dataset.counts.get(split, dict.fromkeys(dataset.classes, 0))
        for label, count in counts.items():
            if not count:
                raise UserError(f"{source}: {_describe_gap(dataset, split, label, counts, is_own=split in splits)}.")


def _describe_gap(dataset: Dataset, split: str, label: str, counts: dict[str, int], *, is_own: bool) -> str:
    """That a split has no image of a class, what there is instead, and what to do (``is_own``: the source has it)."""
    left_out = ""
    if dataset.left_out:
        example = dataset.left_out[0]
        left_out = f" ({len(dataset.left_out)} left out, such as {example.name}: {example.reason})"
    found = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
    remedy = f"add some to its {split} images" if is_own else f"add more images of {label!r}"
    return (
        f"class {label!r} has no image for {split}; expected one or more of each class, found {found}{left_out}: "
        f"{remedy}"
    )
