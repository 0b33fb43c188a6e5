"""Preparing a dataset: images decoded, made alike and divided into splits that never move."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cnn.data.corrections import UNCORRECTED, Corrections
from cnn.data.datasets import REPORT, Conflict, Dataset, Duplicate, LeftOut, Row, SplitWriter, read_rows
from cnn.data.decoding import NotAnImageError
from cnn.data.images import Kept, keep
from cnn.data.similarity import DifferenceHash, Item, near_siblings
from cnn.data.sources import SPLITS, Source, SourceImage, open_source
from cnn.data.splits import Division, Fate, Found, conflict, exact_conflicts
from cnn.support.errors import UserError
from cnn.support.files import atomic_folder
from cnn.support.parallel import ordered_map
from cnn.support.progress import track

logger = logging.getLogger(__name__)

_IMAGES_AHEAD = 8
_SPOOL = "all.parquet"


def prepare(
    source: Source | str | Path,
    folder: str | Path,
    *,
    labels: str | Path | None = None,
    test_as_validation: bool = False,
    validation_share: float | None = None,
) -> Dataset:
    """Turn any source of labelled images into a dataset in ``folder``, replacing what is there.

    The same images under the same names give the same bytes, wherever the source is. An image is left out and listed
    if it cannot be decoded, has two labels, or is in an earlier split (test, validation, train), too. ``labels`` is a
    table that corrects some labels, see `cnn.data.corrections`.

    Two settings are for a source that has only train and test. With ``test_as_validation`` its test images become
    the validation split, as in the notebook, and there is no test split. Otherwise ``validation_share``, 0…1, of its
    training images becomes validation; None stands for `Source.validation_share`.

    Raises:
        UserError: the source or the table cannot be read, or no classifier can be trained from it; ``folder`` is as
            before.
    """
    source = source if isinstance(source, Source) else open_source(source)
    counts = source.counts()
    classes = tuple(sorted({label for _, label in counts if label is not None}))
    splits = frozenset(split for split, label in counts if label is not None)
    _require_classes(source.path, classes, splits)
    corrections = Corrections.of(Path(labels), source) if labels else UNCORRECTED
    share = source.validation_share if validation_share is None else validation_share
    division = Division(splits, share, test_as_validation and splits == {"train", "test"})
    with atomic_folder(Path(folder)) as temporary:
        dataset = _make(source, corrections, counts.total(), temporary, classes, division)
        report = dataset.model_dump_json(exclude={"folder"}, indent=2)
        (temporary / REPORT).write_text(report + "\n", encoding="utf-8")
    _log(dataset)
    return Dataset.open(folder)


def _make(
    source: Source, corrections: Corrections, count: int, folder: Path, classes: tuple[str, ...], division: Division
) -> Dataset:
    """Read the ``count`` images of a source and write the files of their splits into ``folder``."""
    notes, caveats = source.notes(), source.caveats()
    spool = folder / _SPOOL
    images = corrections.apply(track(source.images(), "preparing", count, "image"))
    readable = _read(images, spool, classes)
    dataset = _write_splits(division.fates(readable.images), spool, folder, classes)
    spool.unlink()
    found = {
        "split_origin": division.origin(),
        "left_out": (*readable.left_out, *dataset.left_out),
        "conflicts": tuple(_conflicts(readable)),
        "one_colour": tuple(readable.one_colour),
        "notes": notes,
        "caveats": (*caveats, *corrections.caveats(), *division.caveats(), *_missing_in_test(dataset)),
    }
    dataset = dataset.model_copy(update=found)
    _require_images(source.path, dataset, division)
    return dataset


def _log(dataset: Dataset) -> None:
    """Say what was understood, and what is amiss."""
    counts = {split: sum(of_split.values()) for split, of_split in dataset.counts.items()}
    logger.info(
        "Classes: %s. Images: %s. %s",
        ", ".join(dataset.classes),
        ", ".join(f"{count} for {split}" for split, count in counts.items()),
        " ".join((dataset.split_origin, *dataset.notes)),
    )
    for each in dataset.left_out[:1]:
        logger.warning("Images left out: %d, such as %s: %s.", len(dataset.left_out), each.name, each.reason)
    for copy in dataset.duplicates[:1]:
        example = f"{copy.name} ({copy.same_as})"
        logger.warning(
            "Images left out that are in another split, too: %d, such as %s.", len(dataset.duplicates), example
        )
    for pair in dataset.conflicts[:1]:
        example = f"{pair.name} ({pair.label}) and {pair.same_as} ({pair.other_label})"
        logger.warning("Images like one of another class: %d, such as %s.", len(dataset.conflicts), example)
    for name in dataset.one_colour[:1]:
        logger.warning("Images of one colour: %d, such as %s.", len(dataset.one_colour), name)


def _missing_in_test(dataset: Dataset) -> tuple[str, ...]:
    """A caveat if there are test images, but none of some class."""
    missing = [name for name, count in dataset.counts.get("test", {}).items() if not count]
    return (f"No test image shows {' or '.join(missing)}, so test figures say little: add images.",) if missing else ()


# ---- what is read


@dataclass(frozen=True)
class _Readable:
    """The images of a source that can be used, each with its hash, and what is left out."""

    images: list[Found]
    hashes: list[DifferenceHash]
    left_out: list[LeftOut]
    one_colour: list[str]


def _keep(image: SourceImage) -> tuple[SourceImage, Kept | str]:
    """The image with what is kept of it, or with the reason why it is left out."""
    if image.problem or image.label is None:
        return image, image.problem or "the source names no class for it"
    try:
        return image, keep(image.data)
    except NotAnImageError as error:
        return image, str(error)


def _read(images: Iterable[SourceImage], spool: Path, classes: tuple[str, ...]) -> _Readable:
    """Decode all images and write those that can be used to the file ``spool``: their splits depend on one another."""
    readable = _Readable([], [], [], [])
    with SplitWriter(spool, classes) as writer:
        for image, kept in ordered_map(_keep, images, ahead=_IMAGES_AHEAD):
            if isinstance(kept, str) or image.label is None:
                readable.left_out.append(LeftOut(name=image.name, reason=str(kept)))
                continue
            writer.add(Row(kept.id, classes.index(image.label), image.name, kept.data))
            readable.images.append(Found(image.name, image.split, image.label, kept.id))
            readable.hashes.append(kept.hash)
            if kept.is_one_colour:
                readable.one_colour.append(image.name)
    return readable


def _conflicts(readable: _Readable) -> list[Conflict]:
    """Images that are the same as one of another class, and then those that nearly are."""
    images = readable.images
    items = [Item(difference, image.id, image.label) for image, difference in zip(images, readable.hashes, strict=True)]
    near = [conflict(images[later], images[first], is_exact=False) for first, later in near_siblings(items)]
    return exact_conflicts(images) + near


# ---- what is written


def _write_splits(fates: Sequence[Fate], spool: Path, folder: Path, classes: tuple[str, ...]) -> Dataset:
    """Write each split's file into ``folder``; the result lists what was written and what was left out."""
    counts = {split: dict.fromkeys(classes, 0) for split in SPLITS}
    with ExitStack() as stack:
        files: dict[str, SplitWriter] = {}
        for row, fate in zip(read_rows(spool), fates, strict=True):
            if not isinstance(fate, str):
                continue
            if fate not in files:
                files[fate] = stack.enter_context(SplitWriter(folder / f"{fate}.parquet", classes))
            files[fate].add(row)
            counts[fate][classes[row.label]] += 1
    return Dataset(
        folder=folder,
        classes=classes,
        counts={split: counts[split] for split in SPLITS if split in files},
        split_origin="",
        left_out=tuple(fate for fate in fates if isinstance(fate, LeftOut)),
        duplicates=tuple(fate for fate in fates if isinstance(fate, Duplicate)),
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


def _require_images(source: Path, dataset: Dataset, division: Division) -> None:
    """Refuse a dataset in which a class has no image for a split that must have one."""
    for split in ("train", "validation", *(("test",) if None in division.splits else ())):
        counts = dataset.counts.get(split, dict.fromkeys(dataset.classes, 0))
        for label, count in counts.items():
            if not count:
                is_own = split in division.splits
                raise UserError(f"{source}: {_describe_gap(dataset, split, label, is_own=is_own)}.")


def _describe_gap(dataset: Dataset, split: str, label: str, *, is_own: bool) -> str:
    """That a split has no image of a class, what there is instead, and what to do (``is_own``: the source has it)."""
    left_out = ""
    if dataset.left_out:
        example = dataset.left_out[0]
        left_out = f" ({len(dataset.left_out)} left out, such as {example.name}: {example.reason})"
    of_class = {each: of_split[label] for each, of_split in dataset.counts.items() if of_split[label]}
    found = ", ".join(f"{count} for {each}" for each, count in of_class.items()) or "none that can be used"
    remedy = f"add some to its {split} images" if is_own else f"add more images of {label!r}"
    expected = "expected one or more of each class"
    return f"class {label!r} has no image for {split}; {expected}, found {found}{left_out}: {remedy}"
