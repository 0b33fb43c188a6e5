"""Preparing a dataset: pictures decoded, made alike and put on their side of a split that never moves."""

import json
import logging
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cnn.datasets import REPORT, Dataset, Duplicate, LeftOut, Row
from cnn.errors import UserError
from cnn.files import atomic_folder
from cnn.parallel import ordered_map
from cnn.pictures import NotAPictureError, normalise
from cnn.progress import track
from cnn.sources import SPLITS, RawPicture, caveats, count_pictures, read_pictures

logger = logging.getLogger(__name__)

#: Shares of the pictures that a source without a split gives up for test and validation.
TEST_SHARE, VALIDATION_SHARE = 0.15, 0.15
#: Share of the training pictures that a source with only train and test gives up for validation.
VALIDATION_SHARE_OF_TRAIN = 0.2

_SECOND_PART_CHOSE = "As in the notebook, the source's test pictures are what is called validation, and chose."

_ROWS_PER_GROUP = 64  # so many pictures are in memory at a time, both when writing and when reading
_PICTURES_AHEAD = 8


def _schema(classes: tuple[str, ...]) -> pa.Schema:
    """The columns; their meaning in the metadata is what the ``datasets`` library reads (``Features``)."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
        "id": {"dtype": "string", "_type": "Value"},
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64()), ("id", pa.string())])
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


class _SplitFile:
    """A Parquet file that rows are added to one by one and written to in small groups."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        # encoded pictures neither compress nor repeat
        options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
        self._writer = pq.ParquetWriter(path, schema, **options)
        self._rows: list[dict[str, object]] = []

    def add(self, row: Row) -> None:
        image = {"bytes": row.data, "path": row.name}
        self._rows.append({"image": image, "label": row.label, "id": row.id})
        if len(self._rows) == _ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._writer.schema))
        self._rows = []


def side_of(
    picture_id: str,
    split: str | None,
    splits: set[str | None],
    validation_share: float = VALIDATION_SHARE_OF_TRAIN,
) -> str:
    """The split that a picture of a source with ``splits`` comes to; depends on no other picture.

    >>> side_of("00" * 32, None, {None}), side_of("ff" * 32, None, {None})
    ('test', 'train')
    >>> side_of("00" * 32, "train", {"train", "test"}), side_of("00" * 32, "test", {"train", "test"})
    ('validation', 'test')
    """
    place = int(picture_id[:8], 16) / 2**32
    if split is None:
        if place < TEST_SHARE:
            return "test"
        return "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"
    if split == "train" and "validation" not in splits and place < validation_share:
        return "validation"
    return split


def _explain(splits: set[str | None], validation_share: float) -> str:
    """How the dataset's splits came about, as a sentence."""
    by_content = "decided by a hash of each picture's content"
    if None in splits:
        shares = f"{TEST_SHARE:.0%} of the pictures became test and {VALIDATION_SHARE:.0%} validation"
        return f"The source has no split: {shares}, {by_content}."
    if "validation" not in splits:
        share = f"{100 * validation_share:g}% of train"
        return f"Train and test are the source's own; {share} became validation, {by_content}."
    if "test" not in splits:
        return "Train and validation are the source's own; it has no test part, so there are no test figures."
    return "Train, validation and test are the source's own."


def _normalise(picture: RawPicture) -> tuple[RawPicture, tuple[str, bytes] | str]:
    """The picture with its id and the bytes to keep, or with the reason why it is left out."""
    if picture.label is None:
        return picture, "the source names no class for it"
    try:
        return picture, normalise(picture.data)
    except NotAPictureError as error:
        return picture, str(error)


def _write_splits(
    pictures: Iterable[RawPicture],
    folder: Path,
    classes: tuple[str, ...],
    splits: set[str | None],
    validation_share: float,
) -> Dataset:
    """Write each split's file into ``folder``; what was written and what was not is the result."""
    counts = {split: dict.fromkeys(classes, 0) for split in SPLITS}
    left_out, duplicates = [], []
    first: dict[str, tuple[str, str]] = {}  # id → side and name of the first picture that has it
    with ExitStack() as stack:
        files: dict[str, _SplitFile] = {}
        for picture, result in ordered_map(_normalise, pictures, ahead=_PICTURES_AHEAD):
            if isinstance(result, str) or picture.label is None:
                left_out.append(LeftOut(name=picture.name, reason=str(result)))
                continue
            picture_id, data = result
            side = side_of(picture_id, picture.split, splits, validation_share)
            first_side, first_name = first.setdefault(picture_id, (side, picture.name))
            if side != first_side:
                duplicates.append(Duplicate(name=picture.name, same_as=first_name))
                continue
            if side not in files:
                file = _SplitFile(folder / f"{side}.parquet", _schema(classes))
                files[side] = stack.enter_context(closing(file))
            files[side].add(Row(picture_id, classes.index(picture.label), picture.name, data))
            counts[side][picture.label] += 1
    return Dataset(
        folder=folder,
        classes=classes,
        counts={split: counts[split] for split in SPLITS if split in files},
        split=_explain(splits, validation_share),
        left_out=tuple(left_out),
        duplicates=tuple(duplicates),
    )


def _require_classes(source: Path, classes: tuple[str, ...], splits: set[str | None]) -> None:
    """Refuse, before any work, what no classifier can be trained from."""
    hint = "expected a folder for each class with its pictures inside"
    if not classes:
        raise UserError(f"{source}: {hint}, found no picture in such a folder: sort them into some.")
    if len(classes) == 1:
        raise UserError(f"{source}: {hint}, found only one, {classes[0]!r}: add pictures of something else.")
    if not splits & {"train", None}:
        found = " and ".join(sorted(map(str, splits)))
        raise UserError(f"{source}: expected pictures to train on, found only {found}: add a train folder.")


def _require_pictures(source: Path, dataset: Dataset, splits: set[str | None]) -> None:
    """Refuse a dataset in which a class has no picture to learn from or to choose by."""
    left_out = ""
    if dataset.left_out:
        example = dataset.left_out[0]
        left_out = f" ({len(dataset.left_out)} left out, such as {example.name}: {example.reason})"
    for split in ("train", "validation"):
        counts = dataset.counts.get(split, dict.fromkeys(dataset.classes, 0))
        empty = next((name for name, count in counts.items() if not count), None)
        if empty is None:
            continue
        found = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        remedy = f"add some to its {split} part" if split in splits else f"add more pictures of {empty!r}"
        raise UserError(
            f"{source}: class {empty!r} has no picture for {split}; expected one or more of each class, "
            f"found {found}{left_out}: {remedy}."
        )


def prepare(
    source: Path,
    folder: Path,
    second_part_validates: bool = False,
    validation_share: float = VALIDATION_SHARE_OF_TRAIN,
) -> Dataset:
    """Turn any source of labelled pictures into a dataset in ``folder``, replacing what is there.

    With ``second_part_validates`` the test part of a source that has only train and test becomes the validation
    part, as in the notebook, and there is no test part. Otherwise ``validation_share``, 0…1, of such a source's
    training pictures becomes the validation part.

    The same pictures under the same names give the same bytes, wherever the source is. What cannot be
    decoded, and what already stands on an earlier side (test, validation, train), is left out and listed.

    Raises:
        UserError: the source cannot be read or no classifier can be trained from it; ``folder`` is as before.
    """
    found = count_pictures(source)
    classes = tuple(sorted({label for _, label in found if label is not None}))
    splits = {split for split, label in found if label is not None}
    _require_classes(source, classes, splits)
    pictures = track(read_pictures(source), "preparing", found.total(), "picture")
    second_part_validates &= splits == {"train", "test"}
    if second_part_validates:
        pictures = (replace(each, split="validation") if each.split == "test" else each for each in pictures)
        splits = {"train", "validation"}
    with atomic_folder(folder) as place:
        dataset = _write_splits(pictures, place, classes, splits, validation_share)
        _require_pictures(source, dataset, splits)
        told = list(caveats(source))
        if second_part_validates:
            dataset = dataset.model_copy(update={"split": "Train is the source's own."})
            told.append(_SECOND_PART_CHOSE)
        if untested := [name for name, count in dataset.counts.get("test", {}).items() if not count]:
            told.append(f"No test picture shows {' or '.join(untested)}, so test figures say little: add pictures.")
        dataset = dataset.model_copy(update={"caveats": tuple(told)})
        (place / REPORT).write_text(dataset.model_dump_json(exclude={"folder"}, indent=2) + "\n")
    for what, items in (("could not be used", dataset.left_out), ("stand on both sides", dataset.duplicates)):
        if items:
            logger.warning("%d pictures left out that %s, such as %s", len(items), what, items[0])
    return Dataset.open(folder)
