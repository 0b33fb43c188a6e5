"""Scoring: a version's answers for any number of images, as Parquet: an image a row."""

import errno
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cnn.data.decoding import NotAnImageError
from cnn.evaluation.answers import Answer
from cnn.serving.predictor import Predictor
from cnn.serving.shards import Encoded
from cnn.support.errors import UserError
from cnn.support.files import NO_FILE, atomic_file
from cnn.support.parallel import in_groups, ordered_map
from cnn.support.text import printable

#: Keys of a scores file's metadata.
_MODEL, _VERSION, _CLASSES = b"model", b"version", b"classes"
_UNREADABLE = (*NO_FILE, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM)  # others are the machine's, not one image's
_SHOWN = 20  # problems that a summary names
_CLASSES_NAMED = 10
_TOGETHER = 64  # images that are answered before others are taken


@dataclass(frozen=True)
class Score:
    """What is known of an image: its name, the SHA-256 of its encoded bytes, and the answer or why there is none."""

    name: str
    digest: str | None = None
    answer: Answer | None = None
    problem: str | None = None


def score(predictor: Predictor, images: Iterable[Encoded]) -> Iterator[Score]:
    """The scores of images, in their order; while some are answered, the next are read and decoded."""
    for group in in_groups(ordered_map(partial(_open, predictor), images), _TOGETHER):
        answers = predictor.answer(view for _, view in group if view)
        yield from (replace(found, answer=next(answers)) if view else found for found, view in group)


def _open(predictor: Predictor, image: Encoded) -> tuple[Score, Image.Image | None]:
    """What is known of an image before it is answered, and what the network sees of it, if anything."""
    name, read = printable(image[0]), image[1]
    try:
        data = read()
    except UserError as error:
        return Score(name, problem=str(error)), None
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
        return Score(name, problem=error.strerror), None
    digest = hashlib.sha256(data).hexdigest()
    try:
        return Score(name, digest), predictor.view(data)
    except NotAnImageError as error:
        return Score(name, digest, problem=str(error)), None


def _schema(predictor: Predictor) -> pa.Schema:
    """Columns of a scores file, and in its metadata the model, the version and the class names."""
    text = pa.string()
    fields = [pa.field("name", text, nullable=False), pa.field("digest", text), pa.field("class", text)]
    fields += [pa.field(f"p({label})", pa.float32()) for label in predictor.classes]
    fields += [pa.field("novel", pa.bool_()), pa.field("version", text, nullable=False), pa.field("problem", text)]
    model, version = predictor.version.parent.name, predictor.version.name
    return pa.schema(fields, {_MODEL: model, _VERSION: version, _CLASSES: json.dumps(predictor.classes)})


def save_scores(path: Path, scores: Iterable[Score], predictor: Predictor) -> None:
    """Write scores as Parquet; they are in memory, without their images."""
    rows = [_row(each, predictor) for each in scores]
    with atomic_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, _schema(predictor)), temporary)


def _row(score: Score, predictor: Predictor) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": score.name,
        "digest": score.digest,
        "version": predictor.version.name,
        "problem": score.problem,
    }
    if answer := score.answer:
        row |= {f"p({label})": share for label, share in zip(answer.classes, answer.probabilities, strict=True)}
        row |= {"class": answer.label, "novel": answer.novel}
    return row


def join_scores(parts: Iterable[Path], path: Path) -> None:
    """Write scores files of one version as one file, of which one part is in memory at a time."""
    first, *others = parts
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, pq.read_schema(first)) as writer:
        for part in (first, *others):
            writer.write_table(pq.read_table(part))


def require_replaceable(path: Path, setting: str) -> None:
    """Refuse to replace anything but the scores of an earlier run.

    Raises:
        UserError: something else is there; names the ``setting``.
    """
    if path.exists() and not _is_scores_file(path):
        raise UserError(
            f"{setting} {path}: expected a new file, or scores of an earlier run, found something else: name another."
        )


def _is_scores_file(path: Path) -> bool:
    try:
        return {_MODEL, _VERSION, _CLASSES} <= (pq.read_schema(path).metadata or {}).keys()
    except (pa.ArrowException, OSError):
        return False


@dataclass(frozen=True)
class Summary:
    """What a scores file holds: images of each predicted class, unreadable and novel ones, the first problems by name.

    ``model`` and ``version`` are names.
    """

    model: str
    version: str
    counts: dict[str, int]
    unreadable: int
    novel: int
    problems: dict[str, str]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Count what a scores file holds; a part of it is in memory at a time."""
        with pq.ParquetFile(path) as file:
            facts = file.schema_arrow.metadata
            counts = Counter(dict.fromkeys(json.loads(facts[_CLASSES]), 0))
            novel, unreadable, problems = 0, 0, dict[str, str]()
            for batch in file.iter_batches(columns=["name", "class", "novel", "problem"]):
                names, labels, novelties, reasons = (column.to_pylist() for column in batch.columns)
                counts.update(label for label in labels if label is not None)
                novel += sum(map(bool, novelties))
                found = {name: reason for name, reason in zip(names, reasons, strict=True) if reason is not None}
                unreadable += len(reasons) - reasons.count(None)
                problems |= dict(list(found.items())[: _SHOWN - len(problems)])
        return cls(facts[_MODEL].decode(), facts[_VERSION].decode(), dict(counts), unreadable, novel, problems)

    @property
    def sentence(self) -> str:
        """What was scored, by what, and what came of it.

        >>> Summary("pets", "v0003", {"cat": 1200, "dog": 7}, 2, 5, {}).sentence
        '1,209 images scored by pets v0003: 1,200 cat, 7 dog, 2 unreadable, 5 unlike the training images.'
        """
        named = Counter(self.counts).most_common(_CLASSES_NAMED)
        others = sum(self.counts.values()) - sum(count for _, count in named)
        counts = [*named, ("of other classes", others), ("unreadable", self.unreadable)]
        counts += [("unlike the training images", self.novel)]
        parts = ", ".join(f"{count:,} {what}" for what, count in counts if count)
        images = sum(self.counts.values()) + self.unreadable
        return f"{images:,} image{'s' * (images != 1)} scored by {self.model} {self.version}: {parts}."


def describe(path: Path) -> str:
    """What a scores file holds, for people: the problems, a sentence, and where it is."""
    summary = Summary.of(path)
    problems = [f"{name}: {reason}" for name, reason in summary.problems.items()]
    more = summary.unreadable - len(problems)
    return "\n".join(["", *problems, *[f"… and {more:,} more"] * bool(more), summary.sentence, f"Scores: {path}"])
