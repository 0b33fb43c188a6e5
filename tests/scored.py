"""Images to score in each kind of input, and what a scores file should hold."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cnn.data.decoding import NotAnImageError
from cnn.serving.predictor import Predictor


def as_zip(folder: Path, names: list[str], place: Path) -> Path:
    with zipfile.ZipFile(place / "photos.zip", "w") as archive:
        for name in names:
            archive.write(folder / name, name)
    return place / "photos.zip"


def as_parquet(folder: Path, names: list[str], place: Path) -> Path:
    images = [{"bytes": (folder / name).read_bytes(), "path": name} for name in names]
    pq.write_table(pa.table({"image": images}), place / "photos.parquet", row_group_size=3)
    return place / "photos.parquet"


def as_list(folder: Path, names: list[str], place: Path) -> Path:
    (place / "photos.txt").write_text("\r\n".join([*(str(folder / name) for name in names), ""]), encoding="utf-8")
    return place / "photos.txt"


#: Each kind of input but a folder, by what makes it from some files of a folder.
KINDS: dict[str, Callable[[Path, list[str], Path], Path]] = {"zip": as_zip, "parquet": as_parquet, "list": as_list}


@pytest.fixture
def photos(tmp_path: Path, drawn: Path) -> Path:
    """Twelve drawn images at two depths, two that cannot be decoded, and a file that is none by its name."""
    folder = tmp_path / "photos"
    shutil.copytree(drawn / "test", folder / "test")
    for path in (drawn / "validation" / "hotdog").iterdir():
        shutil.copy(path, folder)
    (folder / "cut.jpg").write_bytes((folder / "0100.jpg").read_bytes()[:400])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("no image")
    return folder


def names_in(folder: Path) -> list[str]:
    """The images among the `photos`, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.[jp][pn]g"))


def expected(predictor: Predictor, data: bytes) -> dict[str, Any]:
    """The columns that answer an image, by `Predictor.predict`."""
    try:
        answer = predictor.predict(data)
    except NotAnImageError as error:
        return {"class": None, "novel": None, "problem": str(error)} | {
            f"p({each})": None for each in predictor.classes
        }
    probabilities = {f"p({label})": pytest.approx(share, abs=1e-6) for label, share in answer.by_class.items()}
    return {"class": answer.label, "novel": answer.novel, "problem": None} | probabilities
