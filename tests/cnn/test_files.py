"""Whole files or none, and references that notice."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnn.errors import UserError
from cnn.files import Reference, atomic_file, atomic_folder, content_digest, locked, require_writable


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    with atomic_file(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("half of the sec")
        raise ZeroDivisionError
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_folder_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for content in ("first", "second"):
        with atomic_folder(folder) as temporary:
            (temporary / "file").write_text(content)
    with pytest.raises(ZeroDivisionError), atomic_folder(folder) as temporary:
        (temporary / "file").write_text("third")
        raise ZeroDivisionError
    assert (folder / "file").read_text() == "second"
    with pytest.raises(OSError), atomic_folder(folder, existing="refuse") as temporary:
        (temporary / "file").write_text("fourth")
    assert (folder / "file").read_text() == "second"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_digest_is_of_the_content_and_not_of_its_place(tmp_path: Path) -> None:
    (tmp_path / "one" / "sub").mkdir(parents=True)
    (tmp_path / "one" / "sub" / "file").write_text("text")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    digest = content_digest(tmp_path / "one")
    assert content_digest(tmp_path / "two") == digest
    (tmp_path / "two" / ".hidden").write_text("does not count")
    assert content_digest(tmp_path / "two") == digest
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "sub").symlink_to(tmp_path / "one" / "sub")
    assert content_digest(tmp_path / "linked") == digest
    (tmp_path / "two" / "sub" / "file").rename(tmp_path / "two" / "sub" / "other")
    assert content_digest(tmp_path / "two") != digest


def test_a_reference_notices_what_happened_to_its_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    reference = Reference.to(path, "text")
    assert reference.is_intact()
    path.write_text("test")
    assert not reference.is_intact()
    path.unlink()
    assert not reference.is_intact()


def test_a_name_that_is_not_utf8_has_a_digest(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_text("text")
    reference = Reference.to(tmp_path, "folder")
    assert reference.is_intact()
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).rename(tmp_path / os.fsdecode(b"caf\xe8.jpg"))
    assert not reference.is_intact()


def test_who_locks_the_same_folder_waits(tmp_path: Path) -> None:
    happened = []

    def second() -> None:
        with locked(tmp_path / "new"):
            happened.append("second")

    with ThreadPoolExecutor() as pool:
        with locked(tmp_path / "new"):
            waiting = pool.submit(second)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            happened.append("first")
        waiting.result(timeout=60)
    assert happened == ["first", "second"]
    assert not list((tmp_path / "new").iterdir())


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    require_writable(tmp_path / "new", "--store")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"--store .*file/folder"):
        require_writable(tmp_path / "file" / "folder", "--store")
