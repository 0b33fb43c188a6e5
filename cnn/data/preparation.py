"""Preparing a dataset: images decoded, made alike and divided into splits that never move."""

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict

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
#: So many images are decoded by one task, at most.
_IMAGES_PER_SHARD = 2048
#: What `read_shard` writes: the images that can be used, and what is known of them all.
_IMAGES, _FOUND, _PART = "images.parquet", "found.json", "part"


class Span(NamedTuple):
    """Consecutive images of a source: from ``start``, counted from 0, up to ``stop``, or to the end if it is None."""

    start: int
    stop: int | None


def prepare(
    source: Source | str | Path,
    folder: str | Path,
    *,
    labels: str | Path | None = None,
    test_as_validation: bool = False,
    validation_share: float | None = None,
    parts: Sequence[Path] = (),
) -> Dataset:
    """Turn any source of labelled images into a dataset in ``folder``, replacing what is there.

    The same images under the same names give the same bytes, wherever the source is. An image is left out and listed
    if it cannot be decoded, has two labels, or is in an earlier split (test, validation, train), too. ``labels`` is a
    table that corrects some labels, see `cnn.data.corrections`.

    Two settings are for a source that has only train and test. With ``test_as_validation`` its test images become
    the validation split, as in the notebook, and there is no test split. Otherwise ``validation_share``, 0…1, of its
    training images becomes validation; None stands for `Source.validation_share`.

    ``parts`` are what `read_shard` made of the `shards` of the source, in their order; without them it is read here.

    Raises:
        UserError: the source or the table cannot be read, or no classifier can be trained from it; ``folder`` is as
            before.
    """
    source = source if isinstance(source, Source) else open_source(source)
    counts = source.counts()
    classes = _classes(counts)
    splits = frozenset(split for split, label in counts if label is not None)
    _require_classes(source.path, classes, splits)
    corrections = _corrections(labels, source)
    share = source.validation_share if validation_share is None else validation_share
    division = Division(splits, share, test_as_validation and splits == {"train", "test"})
    with atomic_folder(Path(folder)) as temporary:
        parts = parts or [_read(source, Span(0, None), corrections, temporary / _PART)]
        dataset = _join(source, corrections, parts, temporary, classes, division)
        shutil.rmtree(temporary / _PART, ignore_errors=True)
    _log(dataset)
    return Dataset.open(folder)


def _join(
    source: Source,
    corrections: Corrections,
    parts: Sequence[Path],
    folder: Path,
    classes: tuple[str, ...],
    division: Division,
) -> Dataset:
    """Write the dataset of all parts of a source into ``folder``: which split an image is in depends on the others."""
    readable = _Readable.joined(parts)
    rows = (row for part in parts for row in read_rows(part / _IMAGES))
    dataset = _write_splits(division.fates(readable.images), rows, folder, classes)
    notes, caveats = source.notes(), source.caveats()
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
    report = dataset.model_dump_json(exclude={"folder"}, indent=2)
    (folder / REPORT).write_text(report + "\n", encoding="utf-8")
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


class _Readable(BaseModel):
    """The images of a source that can be used, each with its hash, and what is left out."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    images: list[Found] = []
    hashes: list[DifferenceHash] = []
    left_out: list[LeftOut] = []
    one_colour: list[str] = []

    @classmethod
    def joined(cls, parts: Iterable[Path]) -> Self:
        """What is known of all parts, in their order."""
        whole = cls()
        for part in parts:
            found = cls.model_validate_json((part / _FOUND).read_bytes())
            for name in cls.model_fields:
                getattr(whole, name).extend(getattr(found, name))
        return whole


def shards(source: Source) -> list[Span]:
    """The images of a source in parts that `read_shard` can read each by itself; one part if its format has no more."""
    count = source.counts().total() if source.random_access else 0
    starts = range(0, count, _IMAGES_PER_SHARD) or [0]
    return [Span(start, start + _IMAGES_PER_SHARD if start < starts[-1] else None) for start in starts]


def read_shard(source: Source, span: Span, folder: Path, *, labels: Path | None = None) -> None:
    """Decode some images of a source into ``folder``, for `prepare` to join; ``labels`` as there.

    Raises:
        UserError: the source or the table cannot be read.
    """
    corrections = _corrections(labels, source)
    with atomic_folder(folder) as temporary:
        _read(source, span, corrections, temporary)


def _corrections(labels: str | Path | None, source: Source) -> Corrections:
    return Corrections.of(Path(labels), source) if labels else UNCORRECTED


def _classes(counts: Mapping[tuple[str | None, str | None], int]) -> tuple[str, ...]:
    """The names of all classes of a source, sorted."""
    return tuple(sorted({label for _, label in counts if label is not None}))


def _keep(image: SourceImage) -> tuple[SourceImage, Kept | str]:
    """The image with what is kept of it, or with the reason why it is left out."""
    if image.problem or image.label is None:
        return image, image.problem or "the source names no class for it"
    try:
        return image, keep(image.data)
    except NotAnImageError as error:
        return image, str(error)


def _read(source: Source, span: Span, corrections: Corrections, folder: Path) -> Path:
    """Decode images; write into ``folder`` those that can be used and what is known of all. Returns ``folder``."""
    counts, readable = source.counts(), _Readable()
    classes, stop = _classes(counts), counts.total() if span.stop is None else span.stop
    images = corrections.apply(track(source.images(*span), "preparing", stop - span.start, "image"))
    folder.mkdir(exist_ok=True)
    with SplitWriter(folder / _IMAGES, classes) as writer:
        for image, kept in ordered_map(_keep, images, ahead=_IMAGES_AHEAD):
            if isinstance(kept, str) or image.label is None:
                readable.left_out.append(LeftOut(name=image.name, reason=str(kept)))
                continue
            writer.add(Row(kept.id, classes.index(image.label), image.name, kept.data))
            readable.images.append(Found(image.name, image.split, image.label, kept.id))
            readable.hashes.append(kept.hash)
            if kept.is_one_colour:
                readable.one_colour.append(image.name)
    (folder / _FOUND).write_text(readable.model_dump_json(), encoding="utf-8")
    return folder


def _conflicts(readable: _Readable) -> list[Conflict]:
    """Images that are the same as one of another class, and then those that nearly are."""
    images = readable.images
    items = [Item(difference, image.id, image.label) for image, difference in zip(images, readable.hashes, strict=True)]
    near = [conflict(images[later], images[first], is_exact=False) for first, later in near_siblings(items)]
    return exact_conflicts(images) + near


# ---- what is written


def _write_splits(fates: Sequence[Fate], rows: Iterator[Row], folder: Path, classes: tuple[str, ...]) -> Dataset:
    """Write each split's file into ``folder``; the result lists what was written and what was left out."""
    counts = {split: dict.fromkeys(classes, 0) for split in SPLITS}
    with ExitStack() as stack:
        files: dict[str, SplitWriter] = {}
        for row, fate in zip(rows, fates, strict=True):
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
