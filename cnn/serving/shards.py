"""Shards: consecutive images of a folder, a list of files, a zip or Parquet, listed without reading one of them."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, computed_field

from cnn.data.decoding import MAX_BYTES
from cnn.data.sources.parquet import count_images, read_images
from cnn.data.sources.source import readable
from cnn.data.sources.tree import is_image_name
from cnn.data.sources.zips import ZipSource
from cnn.support.digests import content_digest
from cnn.support.errors import UserError
from cnn.support.files import read_file, text_digest
from cnn.support.listing import list_files

#: A list of files with more bytes is refused.
MAX_LIST = 1 << 30
_EXPECTED = "expected a folder of images, a .zip, Parquet, or a text file with a path in each line"

#: The name of an image, and what reads its encoded bytes: on any thread.
Encoded = tuple[str, Callable[[], bytes]]

logger = logging.getLogger(__name__)


class _Shard(BaseModel):
    """Consecutive images of the same ``source``; what identifies them is their content, and not where it is."""

    model_config = ConfigDict(frozen=True)

    source: Path = Field(exclude=True)
    names: tuple[str, ...] = Field(exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def digest(self) -> str:
        """Identity of the names and of the bytes that hold the images, which are read when this is first asked for."""
        return text_digest(*self._content())

    def _content(self) -> Iterable[str]:
        """The names, and digests of the files that hold the images."""
        return content_digest(self.source), *self.names


class FileShard(_Shard):
    """Files, by their names relative to the folder ``source``; a name may be absolute."""

    def _content(self) -> Iterable[str]:
        return (part for name in self.names for part in (name, _digest(self.source / name)))

    def images(self) -> Iterator[Encoded]:
        """Each image by its name, with what reads it."""
        return ((name, partial(read_file, self.source / name, MAX_BYTES)) for name in self.names)


class MemberShard(_Shard):
    """Members of the zip ``source``."""

    def images(self) -> Iterator[Encoded]:
        """Each image by its name, with what reads it."""
        archive = ZipSource(self.source)
        return ((name, partial(archive.load, name)) for name in self.names)


class RowShard(_Shard):
    """Rows of the Parquet file ``source``, from the row ``start`` on, which is counted from 0."""

    start: int

    def images(self) -> Iterator[Encoded]:
        """Each image by its name, with what gives it: it was read before."""
        rows = read_images(self.source, self.start, self.start + len(self.names))
        return ((name, partial(bytes, data)) for name, data in zip(self.names, rows, strict=True))


#: Each kind of shard: all have `images` and a ``digest``, which is computed when it is first asked for.
Shard = FileShard | MemberShard | RowShard


def cut(source: Path, most: int) -> list[Shard]:
    """The images of ``source`` in shards of at most ``most``.

    Raises:
        UserError: there is no image, or nothing that images can be read from.
    """
    with readable(source):
        if source.is_dir():
            shards = _of_folder(source, most)
        elif not source.is_file():
            found = "no file" if source.exists() else "nothing"
            raise UserError(f"{source}: {_EXPECTED}, found {found}: check the path.")
        elif source.suffix.lower() == ".zip":
            shards = _of_names(MemberShard, source, _images_among(source, sorted(ZipSource(source).names())), most)
        elif source.suffix.lower() == ".parquet":
            shards = _of_rows(source, source.name, most)
        else:
            shards = _of_names(FileShard, source.parent, _lines(source), most)
    if not shards:
        raise UserError(f"{source}: {_EXPECTED}, found no image: check the path.")
    return shards


def _of_folder(folder: Path, most: int) -> list[Shard]:
    """The image files in a folder at any depth, or else its Parquet files."""
    listing = list_files(folder)
    names = sorted([*listing.files, *listing.special])
    if images := _images_among(folder, names):
        return _of_names(FileShard, folder, images, most)
    parquet = [name for name in names if name.lower().endswith(".parquet")]
    return [shard for name in parquet for shard in _of_rows(folder / name, name, most)]


def _images_among(source: Path, names: Sequence[str]) -> list[str]:
    images = [name for name in names if is_image_name(name)]
    if images and len(images) < len(names):
        logger.info("%s: not read are %d files that are no images by their names.", source, len(names) - len(images))
    return images


def _of_names(kind: type[FileShard | MemberShard], source: Path, names: list[str], most: int) -> list[Shard]:
    """Shards that end where a name says so, and not at a number: one image more changes only the shard it is in.

    They have half as many images as they may, on average (content-defined chunking, Muthitacharoen et al. 2001).
    """
    shards: list[Shard] = []
    first, period = 0, max(1, most // 2)
    for end, name in enumerate(names, start=1):
        if end - first == most or int(text_digest(name)[:8], 16) % period == 0 or end == len(names):
            shards.append(kind(source=source, names=tuple(names[first:end])))
            first = end
    return shards


def _of_rows(file: Path, name: str, most: int) -> list[Shard]:
    count = count_images(file)
    starts = range(0, count, most)
    return [
        RowShard(
            source=file,
            names=tuple(f"{name} row {row + 1}" for row in range(start, min(start + most, count))),
            start=start,
        )
        for start in starts
    ]


def _lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        UserError: it holds no text.
    """
    data = read_file(file, MAX_LIST)
    if b"\0" in data:
        raise UserError(f"{file}: {_EXPECTED}, found a file that is none of these: check the path.")
    lines = data.decode("utf-8-sig", errors="surrogateescape").split("\n")
    return [line for line in (line.rstrip("\r") for line in lines) if line.strip()]


def _digest(file: Path) -> str:
    """SHA-256 of a file; empty if it cannot be read."""
    try:
        return content_digest(file) if file.is_file() else ""
    except OSError:
        return ""
