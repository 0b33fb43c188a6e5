"""Parquet files in the Hugging Face image convention: ``image`` struct<bytes, path>, ``label`` (index or name)."""

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePosixPath
from reprlib import repr as short_repr

import pyarrow as pa
import pyarrow.parquet as pq

from cnn.data.decoding import MAX_BYTES
from cnn.data.sources.layout import SourceFile, in_reading_order, split_of
from cnn.data.sources.source import (
    SPLITS,
    Source,
    SourceImage,
    class_name,
    origin_of_splits,
    raise_if_from_system,
)
from cnn.support.errors import UserError
from cnn.support.listing import visible_files
from cnn.support.text import printable

_SUFFIX = ".parquet"
_IMAGES, _LABELS = "image.bytes", "label"
_ROWS_AT_A_TIME = 16
_LARGEST_MEAN = 2 * MAX_BYTES  # of a row group's images: one that is too large loses itself, and not the file


class ParquetSource(Source):
    """A Parquet file, or a folder of some; a word in a file's name, or in that of a folder, is the split."""

    random_access = True

    @classmethod
    def matches(cls, path: Path, names: Sequence[str]) -> bool:
        return any(name.lower().endswith(_SUFFIX) for name in names)

    @cached_property
    def _files(self) -> list[SourceFile]:
        names = [name for name in self._all_names if name.lower().endswith(_SUFFIX) or not self.path.is_dir()]
        splits = {name: _split_of_file(name) for name in names}
        strays = [name for name in names if len(splits[name]) != 1]
        if any(splits.values()) and strays:
            found = " and ".join(sorted(splits[strays[0]])) or "none"
            raise UserError(
                f"{self.path / strays[0]}: expected a name, or a folder's name, that holds one of the words train, "
                f"validation and test, like those of the files beside it, found {found}: rename it or move it away."
            )
        self._require_one_configuration(names)
        return in_reading_order(SourceFile(name, min(splits[name], default=None), "") for name in names)

    @cached_property
    def _all_names(self) -> list[str]:
        return visible_files(self.path) if self.path.is_dir() else [self.path.name]

    def _require_one_configuration(self, names: list[str]) -> None:
        """Refuse several datasets beside one another, each with splits of its own."""
        places = sorted({place for name in names if (place := _place_of_splits(name)) is not None})
        if len(places) > 1:
            raise UserError(
                f"{self.path}: expected one dataset, found splits in several folders, such as "
                f"{printable(places[0]) or '.'} and {printable(places[1])}: name one of them."
            )

    def _notes(self) -> tuple[str, ...]:
        read = [file.name for file in self._files]
        parts = {split: [file.name for file in self._files if file.split == split] for split in SPLITS}
        origin = origin_of_splits({split: files for split, files in parts.items() if files})
        return origin + self._other_files(name for name in self._all_names if name not in read)

    def _list(self) -> Iterator[SourceImage]:
        return self._read_rows(0, None, _LABELS)

    def _read(self) -> Iterator[SourceImage]:
        return self._read_some(0, None)

    def _read_some(self, start: int, stop: int | None) -> Iterator[SourceImage]:
        return self._read_rows(start, stop, _IMAGES, _LABELS)

    def _read_rows(self, start: int, stop: int | None, *columns: str) -> Iterator[SourceImage]:
        """The rows ``start`` to ``stop`` (without it) of all files, counted from 0."""
        for file in self._files:
            if stop is not None and stop <= 0:
                return
            path = self.path / file.name if self.path.is_dir() else self.path
            with _opened(path) as table:
                name, first = printable(file.name), max(0, start)
                rows = self._rows(path, table, first, stop, *columns)
                for number, (label, data) in enumerate(rows, start=first + 1):
                    yield SourceImage(f"{name} row {number}", label, file.split, data)
                start -= table.metadata.num_rows
                stop = None if stop is None else stop - table.metadata.num_rows

    def _rows(
        self, path: Path, table: pq.ParquetFile, start: int, stop: int | None, *columns: str
    ) -> Iterator[tuple[str | None, bytes]]:
        """Class name and encoded image of some rows of a file; no image if ``columns`` do not name it.

        As of any file, at most `MAX_BYTES` of an image are read; a longer one is cut off, and so found damaged.
        """
        label_type = _require_columns(path, table.schema_arrow)
        names = _class_names(path, table.schema_arrow) if pa.types.is_integer(label_type) else []
        for batch in _batches(path, table, start, stop, *columns):
            labels = batch.column(_LABELS).to_pylist()
            images = _encoded(batch) if _IMAGES in columns else [b""] * len(labels)
            for label, image in zip(labels, images, strict=True):
                yield _label_of(label, names), image


def count_images(path: Path) -> int:
    """Number of rows of a Parquet file, each of them an image; a label is not needed.

    Raises:
        UserError: the file is damaged, or has no such column.
    """
    with _opened(path) as table:
        schema = table.schema_arrow
        if schema.names.count("image") != 1 or not _holds_images(schema.field("image").type):
            columns = printable(", ".join(f"{field.name} ({field.type})" for field in schema))
            raise UserError(
                f"{path}: expected the column image (struct<bytes, path>), found {columns[:200]}: convert it first."
            )
        return table.metadata.num_rows


def read_images(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The encoded images of the rows ``start`` to ``stop`` (without it), counted from 0; no others are decompressed.

    Raises:
        UserError: the file is damaged.
    """
    with _opened(path) as table:
        for batch in _batches(path, table, start, stop, _IMAGES):
            yield from _encoded(batch)


def _batches(
    path: Path, table: pq.ParquetFile, start: int, stop: int | None, *columns: str
) -> Iterator[pa.RecordBatch]:
    """Some columns of the rows ``start`` to ``stop`` (without it); row groups that hold none of them are not read."""
    metadata = table.metadata
    ends = list(accumulate(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)))
    first = bisect_right(ends, start)
    last = len(ends) if stop is None else min(len(ends), bisect_left(ends, stop) + 1)
    at_a_time = _rows_at_a_time(path, metadata) if _IMAGES in columns else _ROWS_AT_A_TIME
    place = ends[first - 1] if first else 0
    for batch in table.iter_batches(at_a_time, range(first, last), columns):
        begin, end = max(0, start - place), len(batch) if stop is None else min(len(batch), stop - place)
        if begin < end:
            yield batch.slice(begin, end - begin)
        place += len(batch)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file whose damage is refused; without pre-buffering, pages and not row groups are in memory."""
    with _refusing_damage(path), pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as table:
        yield table


def _encoded(batch: pa.RecordBatch) -> Iterator[bytes]:
    """The encoded images of some rows, each cut off after `MAX_BYTES`; of a row without one, nothing."""
    for image in batch.column("image").flatten()[0]:
        data = image.as_buffer()
        yield data[:MAX_BYTES].to_pybytes() if data else b""


def _rows_at_a_time(path: Path, metadata: pq.FileMetaData) -> int:
    """So many rows that they take no more than `MAX_BYTES`, or one, even if each is as large as all of a row group.

    It may be: rows that are the same are kept once.

    Raises:
        UserError: images are on average so large that not even one should be read.
    """
    largest = 1
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)  # of a column's metadata pyarrow dies if they are damaged
        if group.total_byte_size > _LARGEST_MEAN * group.num_rows:
            raise UserError(
                f"{path}: expected images of at most {MAX_BYTES >> 20} MB, found {group.num_rows} of "
                f"{group.total_byte_size >> 20:,} MB together: leave them out."
            )
        largest = max(largest, group.total_byte_size)
    return max(1, min(_ROWS_AT_A_TIME, MAX_BYTES // largest))


def _split_of_file(name: str) -> set[str]:
    """The splits that the names of a file and of the folders around it hold as words.

    >>> _split_of_file("default/train/0000.parquet"), _split_of_file("beans-test.parquet"), _split_of_file("a.parquet")
    ({'train'}, {'test'}, set())
    """
    return {split for part in PurePosixPath(name).with_suffix("").parts if (split := split_of(part))}


def _place_of_splits(name: str) -> str | None:
    """The folder that the outermost name that holds a split is in; None without one."""
    parts = PurePosixPath(name).with_suffix("").parts
    depth = next((depth for depth, part in enumerate(parts) if split_of(part)), None)
    return None if depth is None else "/".join(parts[:depth])


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise_if_from_system(error)
        reason = " ".join(str(error).split())  # Arrow's reasons have several lines
        raise UserError(
            f"{path}: expected a whole Parquet file, found damage ({reason}): copy or download it again."
        ) from error


def _require_columns(path: Path, schema: pa.Schema) -> pa.DataType:
    """The type of the labels, if there are images and labels; refuse other columns."""
    types = {name: schema.field(name).type for name in schema.names if schema.names.count(name) == 1}
    label = types.get(_LABELS)
    if label is None or not _holds_labels(label) or not _holds_images(types.get("image")):
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UserError(
            f"{path}: expected the columns image (struct<bytes, path>) and label (whole number or string), "
            f"found {printable(columns)[:200]}: convert it first."
        )
    return label


def _holds_images(type_: pa.DataType | None) -> bool:
    if type_ is None or not pa.types.is_struct(type_) or type_.get_field_index("bytes") < 0:
        return False
    bytes_type = type_.field("bytes").type
    return pa.types.is_binary(bytes_type) or pa.types.is_large_binary(bytes_type)


def _holds_labels(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
        return pa.types.is_string(type_) or pa.types.is_large_string(type_)
    return pa.types.is_integer(type_) or pa.types.is_string(type_) or pa.types.is_large_string(type_)


def _class_names(path: Path, schema: pa.Schema) -> list[str]:
    """What Hugging Face's metadata calls the labels 0, 1, …; empty without such metadata.

    Raises:
        UserError: it calls them by something else than a list of different texts.
    """
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        raise _wrong_names(path, "no JSON") from None
    for key in ("info", "features", "label", "names"):
        if found is None:
            return []
        if not isinstance(found, dict):
            raise _wrong_names(path, f"{short_repr(found)} where {key} should be")
        found = found.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise _wrong_names(path, short_repr(found))
    names = list(map(printable, found))
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise _wrong_names(path, f"{twice[0]!r} twice")
    return names


def _wrong_names(path: Path, found: str) -> UserError:
    return UserError(
        f"{path}: expected a list of different texts as the names of the labels in the metadata (huggingface, "
        f"info, features, label, names), found {found}: write them anew, or leave the metadata out."
    )


def _label_of(label: int | str | None, names: list[str]) -> str | None:
    return class_name(label, names) if isinstance(label, int) else label and printable(label)
