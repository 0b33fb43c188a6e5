"""Parquet files in the Hugging Face image convention: ``image`` struct<bytes, path>, ``label`` (index or name)."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
from cnn.support.files import printable
from cnn.support.listing import visible_files

_SUFFIX = ".parquet"
_ROWS_AT_A_TIME = 16
_COLUMN_TYPES = {
    "image": r"struct<.*bytes: (large_)?binary",
    "label": r"u?int\d|(large_)?string|dictionary<values=(large_)?string",
}


class ParquetSource(Source):
    """A Parquet file, or a folder of some; a word in a file's name, or in that of a folder, is the split."""

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

    def _count(self) -> Counter[tuple[str | None, str | None]]:
        return Counter((file.split, label) for file in self._files for label, _ in self._rows(file, ["label"]))

    def _read(self) -> Iterator[SourceImage]:
        for file in self._files:
            name = printable(file.name)
            for number, (label, data) in enumerate(self._rows(file, ["image.bytes", "label"]), start=1):
                yield SourceImage(f"{name} row {number}", label, file.split, data)

    def _rows(self, file: SourceFile, columns: list[str]) -> Iterator[tuple[str | None, bytes]]:
        """Class name and encoded image of each row; no image if ``columns`` do not name it."""
        path = self.path / file.name if self.path.is_dir() else self.path
        # without pre-buffering, pages and not row groups are in memory
        with _refusing_damage(path), pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as table:
            _require_columns(path, table.schema_arrow)
            names = _class_names(table.schema_arrow)
            for batch in table.iter_batches(_ROWS_AT_A_TIME, columns=columns):
                for row in batch.to_pylist():
                    yield _label_of(row, names), (row.get("image") or {}).get("bytes") or b""


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


def _require_columns(path: Path, schema: pa.Schema) -> None:
    found = {field.name: str(field.type) for field in schema}
    if not all(re.match(pattern, found.get(name, "")) for name, pattern in _COLUMN_TYPES.items()):
        columns = ", ".join(f"{name} ({type_})" for name, type_ in found.items())
        raise UserError(
            f"{path}: expected the columns image (struct<bytes, path>) and label (whole number or string), "
            f"found {columns[:200]}: convert it first."
        )


def _class_names(schema: pa.Schema) -> list[str]:
    """What Hugging Face's metadata calls the labels 0, 1, …; empty without such metadata."""
    try:
        return json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError):
        return []


def _label_of(row: dict[str, Any], names: list[str]) -> str | None:
    return class_name(row["label"], names) if isinstance(row["label"], int) else row["label"]
