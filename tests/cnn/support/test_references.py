"""References that notice whatever happened to their file or folder."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from writers import flip

from cnn.support.references import Reference


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").write_bytes(b"some bytes")
    (tmp_path / "folder" / "other").write_bytes(b"")
    return tmp_path / "folder"


def change_byte(folder: Path) -> None:
    file = folder / "inner" / "file"
    before = file.stat()
    file.write_bytes(flip(file.read_bytes(), 4, 1))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # neither size nor time shows it


def move_file(folder: Path) -> None:
    (folder / "inner" / "file").rename(folder / "file")


def delete_folder(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "byte changed": change_byte,
    "file deleted": lambda folder: (folder / "other").unlink(),
    "file added": lambda folder: (folder / "inner" / "new").touch(),
    "file moved": move_file,
    "folder deleted": delete_folder,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_folder_is_not_intact(change: str, folder: Path) -> None:
    reference = Reference.to(folder, "known by another digest")
    assert reference.is_intact()
    CHANGES[change](folder)
    assert not reference.is_intact()


def test_changed_file_is_not_intact(folder: Path) -> None:
    file = folder / "inner" / "file"
    reference = Reference.to(file)
    assert reference.is_intact()
    change_byte(folder)
    assert not reference.is_intact()
    file.unlink()
    assert not reference.is_intact()


def test_rewritten_folder_is_intact(folder: Path) -> None:
    reference = Reference.to(folder)
    file = folder / "inner" / "file"
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    os.utime(file, (0, 0))
    assert reference.is_intact()


def test_renamed_undecodable_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_text("text")
    reference = Reference.to(tmp_path)
    assert reference.is_intact()
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).rename(tmp_path / os.fsdecode(b"caf\xe8.jpg"))
    assert not reference.is_intact()


def test_digest_is_the_checksum_or_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    file = Path("inner", "file")
    checksum = sha256(b"some bytes").hexdigest()
    plain, named = Reference.to(file), Reference.to(file, "digest", notes=("drawn", "few"))
    assert plain.digest == plain.checksum == named.checksum == checksum
    assert named.digest == "digest"
    assert (plain.notes, named.notes) == ((), ("drawn", "few"))
    assert plain.path == named.path == folder / file


def test_reference_survives_json(folder: Path) -> None:
    reference = Reference.to(folder, "digest", notes=("drawn",))
    assert Reference.model_validate_json(reference.model_dump_json()) == reference
