"""Images in object storage: what is downloaded when, and what becomes of what was deleted or changed there."""

from pathlib import Path

import pytest
from object_storage import BUCKET, Server, cut, storage  # noqa: F401

from cnn.data.remote_images import objects_at, synchronise
from cnn.support.errors import UserError
from cnn.support.listing import visible_files
from cnn.support.objects import Object

PHOTOS = Object(f"{BUCKET}/photos")
CONTENT = {"cat/1.jpg": b"one", "cat/2.jpg": b"two" * 100_000, "dog/1.jpg": b"three"}


@pytest.fixture
def copied(storage: Server, tmp_path: Path) -> Path:
    """Images as somebody put them, with an object that stands for a folder, and their copy."""
    for name, content in {**CONTENT, "cat/": b"", "dog/.hidden": b""}.items():
        (PHOTOS / name).put(content, "")
    storage.faults += [("GET", list_normally), ("GET", cut)]
    synchronise(PHOTOS.address, tmp_path / "copies" / "photos")
    storage.requests.clear()
    return tmp_path / "copies" / "photos"


def list_normally(environ, start, application):  # type: ignore[no-untyped-def]
    """No fault: the first request is a listing."""
    return application(environ, start)


def test_copy_is_the_same(copied: Path) -> None:
    assert {name: (copied / name).read_bytes() for name in visible_files(copied)} == CONTENT


def test_nothing_changed_nothing_is_downloaded(copied: Path, storage: Server) -> None:
    synchronise(PHOTOS.address, copied)
    assert len(storage.requests) == 1  # a listing


def test_only_what_changed_is_downloaded(copied: Path, storage: Server) -> None:
    (PHOTOS / "cat/1.jpg").put(b"ONE", "")
    PHOTOS.delete(["dog/1.jpg"])
    (PHOTOS / "dog/2.jpg").put(b"four", "")
    (copied / "cat" / "2.jpg").unlink()
    storage.requests.clear()
    synchronise(PHOTOS.address, copied)
    assert {name: (copied / name).read_bytes() for name in visible_files(copied)} == {
        "cat/1.jpg": b"ONE", "cat/2.jpg": CONTENT["cat/2.jpg"], "dog/2.jpg": b"four",
    }  # fmt: skip
    assert len(storage.requests) == 4


def test_copy_that_was_changed_is_downloaded_again(copied: Path, storage: Server) -> None:
    (copied / "cat" / "1.jpg").write_bytes(b"ONE")  # the size is the same
    synchronise(PHOTOS.address, copied)
    assert {name: (copied / name).read_bytes() for name in visible_files(copied)} == CONTENT
    assert len(storage.requests) == 2


def test_single_object_is_a_file(storage: Server, tmp_path: Path) -> None:
    (PHOTOS / "meals.zip").put(b"zip", "")
    synchronise(f"{PHOTOS.address}/meals.zip", tmp_path / "copies" / "meals.zip")
    assert (tmp_path / "copies" / "meals.zip").read_bytes() == b"zip"


def test_nothing_at_an_address_is_said(storage: Server) -> None:
    with pytest.raises(UserError, match="s3://bucket/photos: there is no object"):
        objects_at(PHOTOS.address)
