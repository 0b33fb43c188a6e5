import errno
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from writers import flip, labelled_files, png, write_zip

from cnn.data.sources import open_source
from cnn.support.errors import UserError


def test_a_zip_writes_nothing_outside(tmp_path: Path) -> None:
    files = {"../../evil/1.png": png(1), "/etc/2.png": png(2), "a/3.png": png(3), "b/4.png": png(4)}
    place = tmp_path / "x/y"
    place.mkdir(parents=True)
    images = open_source(write_zip(place / "z.zip", files)).images()
    assert {image.label for image in images} == {"etc", "a", "b"}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [place / "z.zip"]


def test_the_contents_are_listed_once(tmp_path: Path) -> None:
    files = labelled_files("train", "test", count=2)
    source = open_source(write_zip(tmp_path / "photos.zip", files))
    counts = source.counts()
    source.path.unlink()
    assert {image.data for image in source.images()} == set(files.values())
    assert source.counts() == counts


def encrypted(data: bytes) -> bytes:
    return flip(data, data.index(b"PK\x01\x02") + 8, bits=1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: len(data) // 2], "damage"),
        (lambda data: b"not a zip", "damage"),
        (lambda data: flip(data, data.index(b"IHDR") + 5), "damage .train/hotdog/0.png"),
        (encrypted, "encrypted"),
    ],
)
def test_a_damaged_zip_is_refused(damage: Callable[[bytes], bytes], words: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "photos.zip", labelled_files("train", count=2), zipfile.ZIP_STORED)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=words) as error:
        list(open_source(path).images())
    assert str(path) in str(error.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_is_found_in_any_compression(compression: int, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "photos.zip", {"a/1.png": bytes(range(256)) * 9, "b/2.png": png(2)}, compression)
    data = path.read_bytes()
    for position in range(data.index(b"1.png") + 5, data.index(b"PK\x03\x04", 4)):
        path.write_bytes(flip(data, position))
        try:
            assert next(iter(open_source(path).images())).data == bytes(range(256)) * 9  # nothing that is read
        except UserError as error:
            assert "found damage (a/1.png: " in str(error)


def test_system_errors_are_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(write_zip(tmp_path / "photos.zip", labelled_files("train", count=2)))
    error: Exception = MemoryError()

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(zipfile.ZipExtFile, "read", fail)
    with pytest.raises(MemoryError):
        list(source.images())
    error = OSError(errno.EMFILE, "Too many open files")
    with pytest.raises(UserError, match="expected to read it, found Too many open files"):
        list(source.images())
