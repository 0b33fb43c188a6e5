"""Small batches in CIFAR-10's binary format, in each of the forms in which they are accepted."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from writers import Files, write_folder

from cnn.data.catalog import CIFAR10_BATCHES
from cnn.data.sources import cifar

IMAGES, RECORD = 20, 3073
OFFICIAL = tuple(CIFAR10_BATCHES)
TRAINING = OFFICIAL[:5]


def batch(name: str) -> bytes:
    """Records of random pixels; every label twice."""
    rng = np.random.default_rng(list(name.encode()))
    labels = rng.permutation(np.arange(IMAGES, dtype=np.uint8) % 10)
    return np.column_stack([labels, rng.integers(0, 256, (IMAGES, RECORD - 1), np.uint8)]).tobytes()


BATCHES = {name: batch(name) for name in OFFICIAL}


@pytest.fixture(autouse=True)
def small_batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`BATCHES` are the official ones, except where the real ones are read; for modules that import this."""
    if "shared" not in request.fixturenames:
        monkeypatch.setattr(cifar, "IMAGES", IMAGES)
        for name, data in BATCHES.items():
            monkeypatch.setitem(CIFAR10_BATCHES, name, hashlib.sha1(data).hexdigest())


def batches(*names: str) -> Files:
    return {name: BATCHES[name] for name in names}


def tar(files: Files, *more: tarfile.TarInfo) -> bytes:
    """As the official archive: in a folder, in no order, beside other files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        folder = tarfile.TarInfo("cifar-10-batches-bin")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in [*reversed(files.items()), ("readme.html", b"<html>")]:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in more:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return content.getvalue()


def as_folder(place: Path, files: Files) -> Path:
    return write_folder(place / "cifar", files | {"readme.html": b"<html>"})


def as_unpacked_archive(place: Path, files: Files) -> Path:
    write_folder(place / "cifar/cifar-10-batches-bin", files)
    return place / "cifar"


def as_archive(place: Path, files: Files) -> Path:
    path = place / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(tar(files)))
    return path


def as_tgz(place: Path, files: Files) -> Path:
    return as_archive(place, files).rename(place / "Copy of it.TGZ")


FORMS = [as_folder, as_unpacked_archive, as_archive, as_tgz]
Form = Callable[[Path, Files], Path]
