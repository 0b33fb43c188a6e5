"""Labelled images from whatever the user has: a `Source` for each format, chosen by `open_source`.

To add a format, write a module with a subclass of `Source` and put it into `FORMATS`.
"""

from pathlib import Path

from cnn.data.sources.cifar import CifarSource
from cnn.data.sources.folders import FolderSource, holds_class_folders
from cnn.data.sources.parquet import ParquetSource
from cnn.data.sources.records import RecordSource
from cnn.data.sources.source import SPLITS, Source, SourceImage, readable
from cnn.data.sources.zips import ZipSource
from cnn.support.errors import UserError
from cnn.support.listing import visible_files

__all__ = ["FORMATS", "SPLITS", "Source", "SourceImage", "open_source"]

#: All formats; the first one that matches a path is taken.
FORMATS: tuple[type[Source], ...] = (CifarSource, ParquetSource, RecordSource, ZipSource, FolderSource)

_EXPECTED = (
    "expected a folder of class folders, a .zip of one, a folder with two .rec files, Parquet, "
    "or CIFAR-10's binary batches in a folder or .tar.gz"
)


def open_source(path: str | Path) -> Source:
    """The images at ``path``, whatever their format; class folders of images win over whatever lies beside them.

    Raises:
        UserError: nothing is there, or nothing that images can be read from.

    >>> open_source("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    cnn.support.errors.UserError: nowhere: expected a folder of class folders, ... found nothing: check the path.
    """
    path = Path(path)
    with readable(path):
        names = visible_files(path) if path.is_dir() else [path.name] if path.is_file() else []
        for format_ in (FolderSource,) if path.is_dir() and holds_class_folders(names) else FORMATS:
            if format_.matches(path, names):
                return format_(path)
        if path.is_dir():
            raise UserError(f"{path}: {_EXPECTED}, found an empty folder: put images into it.")
        found = f"a {path.suffix} file" if path.is_file() else "no file" if path.exists() else "nothing"
    raise UserError(f"{path}: {_EXPECTED}, found {found}: check the path.")
