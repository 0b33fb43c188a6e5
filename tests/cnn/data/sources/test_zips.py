import errno
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from writers import flip, labelled_files, png, write_zip

from cnn.data.sources import open_source, zips
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


# ---- what is bounded before it is read


def packed(path: Path, count: int) -> Path:
    return write_zip(path, {f"{'ab'[n % 2]}/{n}.png": png(0) for n in range(count)}, zipfile.ZIP_STORED)


def require_refusal(path: Path, words: str) -> None:
    for read in (lambda: open_source(path).counts(), lambda: list(open_source(path).images())):
        with pytest.raises(UserError, match=words) as error:
            read()
        assert str(error.value).startswith(f"{path}: expected ") and "\n" not in str(error.value)


@pytest.mark.parametrize("comment", [b"", b"a comment"])
def test_members_are_counted_before_they_are_listed(
    comment: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "many.zip", 20)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = comment
    monkeypatch.setattr(zips, "MAX_MEMBERS", 20)
    assert open_source(path).counts().total() == 20
    monkeypatch.setattr(zips, "MAX_MEMBERS", 19)
    monkeypatch.delattr(zipfile, "ZipFile")  # it would list them all
    require_refusal(path, "found 20 members, more than 19: unpack it")
    monkeypatch.setattr(zips, "MAX_TABLE", 100)
    require_refusal(path, r"found a table of contents of 1,\d\d\d bytes, more than 100")


def test_members_of_a_large_zip_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        zipfile, "ZIP_FILECOUNT_LIMIT", 10
    )  # beyond it, the records of zips of more than 4 GiB are written
    path = packed(tmp_path / "large.zip", 20)
    data = path.read_bytes()
    assert b"PK\x06\x06" in data
    at = data.rindex(b"PK\x05\x06") + 12
    path.write_bytes(data[:at] + bytes(4) + data[at + 4 :])  # the length of the table in the record that does not count
    assert open_source(path).counts().total() == 20
    monkeypatch.setattr(zips, "MAX_MEMBERS", 19)
    require_refusal(path, "found 20 members")


def test_a_bomb_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "bomb.zip", {f"{label}/{n}.png": bytes(1 << 20) for label in "ab" for n in range(8)})
    monkeypatch.setattr(zips, "MAX_UNPACKED", 16 << 20)
    assert open_source(path).counts().total() == 16
    monkeypatch.setattr(zips, "MAX_UNPACKED", (16 << 20) - 1)
    monkeypatch.delattr(zipfile.ZipFile, "open")
    require_refusal(path, r"found 1\d,\d{3} bytes that unpack to 16,777,216")


def test_a_huge_member_is_left_out_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "photos.zip", {"a/1.png": png(1), "b/2.png": png(2), "b/3.png": bytes(5000)})
    monkeypatch.setattr(zips, "MAX_BYTES", 4999)
    problems = {image.name: (image.problem, bool(image.data)) for image in open_source(path).images()}
    assert problems == {
        "a/1.png": ("", True),
        "b/2.png": ("", True),
        "b/3.png": ("5,000 bytes are more than 4,999", False),
    }


@pytest.mark.parametrize(("method", "name"), [(9, r"9 \(Deflate64\)"), (93, r"93 \(Zstandard\)"), (42, "42")])
def test_an_unknown_compression_is_no_damage(method: int, name: str, tmp_path: Path) -> None:
    path = packed(tmp_path / "photos.zip", 4)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 10 : at + 12] = method.to_bytes(2, "little")
    path.write_bytes(data)
    require_refusal(path, f"found compression method {name}, which cannot be read here: unpack it")


# ---- names


class Unflagged(zipfile.ZipInfo):
    """A member whose name is in an encoding that it does not name."""

    encoding = ""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.filename.encode(self.encoding), 0


def without_flag(path: Path, encoding: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(("Brühe/1.png", "Brühe/2.png", "Brot/3.png"), start=1):
            info = Unflagged(name)
            info.encoding = encoding
            archive.writestr(info, png(number))
    return path


def test_utf_8_that_does_not_say_so_is_read(tmp_path: Path) -> None:
    source = open_source(without_flag(tmp_path / "mac.zip", "utf-8"))
    assert source.counts() == {(None, "Brühe"): 2, (None, "Brot"): 1}
    assert source.caveats() == ()
    assert {image.data for image in source.images()} == {png(1), png(2), png(3)}


def test_another_encoding_is_a_caveat(tmp_path: Path) -> None:
    source = open_source(without_flag(tmp_path / "windows.zip", "cp1252"))
    assert len(source.counts()) == 2
    (caveat,) = source.caveats()
    assert caveat.startswith("2 names in the zip are not in UTF-8 and may be misspelt, such as Br")


def test_a_name_in_utf_8_needs_no_caveat(tmp_path: Path) -> None:
    source = open_source(write_zip(tmp_path / "photos.zip", {"Brühe/1.png": png(1), "魚/2.png": png(2)}))
    assert source.counts() == {(None, "Brühe"): 1, (None, "魚"): 1}
    assert source.caveats() == ()
