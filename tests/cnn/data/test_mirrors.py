"""Images in object storage: what is downloaded when, and what becomes of what was deleted or changed there."""

from pathlib import Path

import pytest
from object_storage import BUCKET, Server, cut, storage  # noqa: F401

from cnn.data.mirrors import mirror, objects_at
from cnn.support.errors import UserError
from cnn.support.listing import visible_files
from cnn.support.objects import Object

PHOTOS = Object(f"{BUCKET}/photos")
CONTENT = {"cat/1.jpg": b"one", "cat/2.jpg": b"two" * 100_000, "dog/1.jpg": b"three"}


@pytest.fixture
def mirrored(storage: Server, tmp_path: Path) -> Path:
    """Images as somebody put them, with an object that stands for a folder, and their mirror."""
    for name, content in {**CONTENT, "cat/": b"", "dog/.hidden": b""}.items():
        (PHOTOS / name).put(content, "")
    storage.faults += [("GET", list_normally), ("GET", cut)]
    mirror(PHOTOS.address, tmp_path / "mirror" / "photos")
    storage.requests.clear()
    return tmp_path / "mirror" / "photos"


def list_normally(environ, start, application):  # type: ignore[no-untyped-def]
    """No fault: the first request is a listing."""
    return application(environ, start)


def test_mirror_is_the_same(mirrored: Path) -> None:
    assert {name: (mirrored / name).read_bytes() for name in visible_files(mirrored)} == CONTENT


def test_nothing_changed_nothing_is_downloaded(mirrored: Path, storage: Server) -> None:
    mirror(PHOTOS.address, mirrored)
    assert len(storage.requests) == 1  # a listing


def test_only_what_changed_is_downloaded(mirrored: Path, storage: Server) -> None:
    (PHOTOS / "cat/1.jpg").put(b"ONE", "")
    PHOTOS.delete(["dog/1.jpg"])
    (PHOTOS / "dog/2.jpg").put(b"four", "")
    (mirrored / "cat" / "2.jpg").unlink()
    storage.requests.clear()
    mirror(PHOTOS.address, mirrored)
    assert {name: (mirrored / name).read_bytes() for name in visible_files(mirrored)} == {
        "cat/1.jpg": b"ONE", "cat/2.jpg": CONTENT["cat/2.jpg"], "dog/2.jpg": b"four",
    }  # fmt: skip
    assert len(storage.requests) == 4


def test_single_object_is_a_file(storage: Server, tmp_path: Path) -> None:
    (PHOTOS / "meals.zip").put(b"zip", "")
    mirror(f"{PHOTOS.address}/meals.zip", tmp_path / "mirror" / "meals.zip")
    assert (tmp_path / "mirror" / "meals.zip").read_bytes() == b"zip"


def test_nothing_at_an_address_is_said(storage: Server) -> None:
    with pytest.raises(UserError, match="s3://bucket/photos: there is no object"):
        objects_at(PHOTOS.address)
