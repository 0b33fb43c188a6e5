"""Corrections: a table of labels that a person has edited takes the place of the labels of a source."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from cnn.data.decoding import MAX_BYTES
from cnn.data.sources.source import Source, SourceImage, spell_class
from cnn.support.errors import UserError
from cnn.support.files import file_digest, read_file
from cnn.support.text import printable

_COLUMNS = ("file", "label")
#: Labels that remove an image, unless there is a class of this name.
_REMOVED = ("", "-")
_REASON = "removed by the table of labels"
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Corrections:
    """What a table changes: name of an image → another class than in the source, or None, which removes the image.

    ``digest`` is the SHA-256 of the table.
    """

    labels: Mapping[str, str | None]
    digest: str

    @classmethod
    def of(cls, table: Path, source: Source) -> "Corrections":
        """The corrections of a table of the labels of ``source``; images that it does not name keep theirs.

        Raises:
            UserError: the table cannot be read, or names files or classes that the source does not have.
        """
        given = read_labels(table)
        known = {image.name: image.label for image in source.listing() if image.label is not None}
        classes = sorted(set(known.values()))
        if unknown := [file for file in given if file not in known]:
            raise UserError(
                f"labels {table}: expected names of images in {source.path}, as an audit's labels.csv has them, found "
                f"{unknown[0]!r}{_and_more(unknown)}: correct the names, or delete these rows."
            )
        labels = {file: None if label in _REMOVED and label not in classes else label for file, label in given.items()}
        if foreign := [file for file, label in labels.items() if label is not None and label not in classes]:
            raise UserError(
                f"labels {table}: expected one of the classes {', '.join(classes)}, or - to remove an image, found "
                f"{labels[foreign[0]]!r} for {foreign[0]}{_and_more(foreign)}: correct the labels."
            )
        return cls({file: label for file, label in labels.items() if label != known[file]}, file_digest(table))

    def apply(self, images: Iterable[SourceImage]) -> Iterator[SourceImage]:
        """The images of the source with their corrected labels; those that are removed say so as their problem."""
        for image in images:
            if image.label is None or image.name not in self.labels:
                yield image
            elif (label := self.labels[image.name]) is None:
                yield replace(image, problem=_REASON)
            else:
                yield replace(image, label=label)

    def caveats(self) -> tuple[str, ...]:
        """A sentence that says how many labels were changed; none without a change.

        >>> Corrections({"cat/1.png": "dog", "dog/2.png": None}, "ab" * 32).caveats()[0]
        'A table of labels (SHA-256 abababababab…) changed 1 label and removed 1 image.'
        """
        removed = sum(label is None for label in self.labels.values())
        counts = {"changed": (len(self.labels) - removed, "label"), "removed": (removed, "image")}
        done = [f"{verb} {count:,} {noun}{'s' * (count > 1)}" for verb, (count, noun) in counts.items() if count]
        return (f"A table of labels (SHA-256 {self.digest[:12]}…) {' and '.join(done)}.",) if done else ()


#: No label is changed.
UNCORRECTED = Corrections({}, "")


def read_labels(path: Path) -> dict[str, str]:
    """The label of each file in a table with the columns ``file`` and ``label``; empty where the table has none.

    It is CSV, separated by commas, semicolons or tabs, or Parquet; other columns are ignored.

    Raises:
        UserError: there is no such table, a column is missing, or a file has two labels.
    """
    try:
        table = _read_table(read_file(path, MAX_BYTES))
        names = table.column_names
        if any(names.count(name) != 1 for name in _COLUMNS):
            found = printable(", ".join(names))[:200]
            raise UserError(f"labels {path}: expected the columns file and label, found {found}: name them so.")
        files, given = (table[name].cast(pa.string()).to_pylist() for name in _COLUMNS)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())  # Arrow's reasons have several lines
        raise UserError(
            f"labels {path}: expected a table in CSV (UTF-8) or Parquet, such as an audit's labels.csv, found: "
            f"{reason}; check the path, or save it anew."
        ) from error
    labels, others = dict[str, str](), dict[str, str]()
    for file, label in ((file or "", spell_class(label or "")) for file, label in zip(files, given, strict=True)):
        if labels.setdefault(file, label) != label:
            others[file] = label
    for file, label in others.items():
        raise UserError(
            f"labels {path}: expected one label for each file, found {labels[file]!r} and {label!r} for "
            f"{file}{_and_more(others)}: keep one of these rows."
        )
    return labels


def _read_table(data: bytes) -> pa.Table:
    if data.startswith(_PARQUET_MAGIC):
        return pq.ParquetFile(pa.BufferReader(data)).read()
    header = data.partition(b"\n")[0]
    separator = max(",;\t", key=lambda mark: header.count(mark.encode()))  # spreadsheets choose it by the language
    options = csv.ConvertOptions(column_types=dict.fromkeys(_COLUMNS, pa.string()))
    return csv.read_csv(pa.BufferReader(data), csv.ReadOptions(), csv.ParseOptions(delimiter=separator), options)


def _and_more(found: Collection[str]) -> str:
    """How many there are beside the one that is named.

    >>> _and_more(["a.png"]), _and_more(["a.png", "b.png", "c.png"])
    ('', ' and 2 more')
    """
    return f" and {len(found) - 1} more" if len(found) > 1 else ""
