"""Digests depend on content alone, and are remembered only while a file is as it was."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cnn.support import digests
from cnn.support.digests import content_digest, remembered_digests


def test_digest_depends_on_the_content_alone(tmp_path: Path) -> None:
    (tmp_path / "one" / "sub").mkdir(parents=True)
    (tmp_path / "one" / "sub" / "file").write_text("text", encoding="utf-8")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    digest = content_digest(tmp_path / "one")
    assert content_digest(tmp_path / "two") == digest
    (tmp_path / "two" / ".hidden").write_text("does not count", encoding="utf-8")
    assert content_digest(tmp_path / "two") == digest
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "sub").symlink_to(tmp_path / "one" / "sub")
    assert content_digest(tmp_path / "linked") == digest
    (tmp_path / "two" / "sub" / "file").rename(tmp_path / "two" / "sub" / "other")
    assert content_digest(tmp_path / "two") != digest


# ---- remembered


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose bytes are read; files settle at once."""
    names: list[str] = []
    digest = digests.file_digest

    def noting(path: Path) -> str:
        names.append(path.name)
        return digest(path)

    monkeypatch.setattr(digests, "file_digest", noting)
    monkeypatch.setattr(digests, "_SETTLING", 0)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files that are not of this tick of the file system's clock."""
    (tmp_path / "folder").mkdir()
    for name in "ab":
        (tmp_path / "folder" / name).write_text("one", encoding="utf-8")
    time.sleep(0.02)
    return tmp_path / "folder"


def digest_again(folder: Path) -> str:
    with remembered_digests(folder.parent / "memo.json"):
        return content_digest(folder)


def test_unchanged_files_are_read_once(folder: Path, read: list[str]) -> None:
    first = digest_again(folder)
    assert digest_again(folder) == first == content_digest(folder)
    assert read == ["a", "b", "a", "b"]  # the last two without a memo


def put_back_time(file: Path) -> None:
    before = file.stat()
    file.write_text("two", encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(file: Path) -> None:
    other = file.with_name(".other")
    other.write_text("two", encoding="utf-8")
    shutil.copystat(file, other)
    other.rename(file)


@pytest.mark.parametrize("change", [put_back_time, replace])
def test_altered_file_is_noticed(folder: Path, read: list[str], change: Callable[[Path], None]) -> None:
    digest_again(folder)
    change(folder / "a")
    assert digest_again(folder) == content_digest(folder)
    assert read == ["a", "b", "a", "a", "b"]


def test_what_changed_just_now_is_not_remembered(
    folder: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_SETTLING", 10**12)
    digest_again(folder)
    digest_again(folder)
    assert read == ["a", "b"] * 2


@pytest.mark.parametrize("content", ["", "[]", '{"/x": 1}', "\0", "{"])
def test_damaged_memo_is_begun_anew(folder: Path, read: list[str], content: str) -> None:
    (folder.parent / "memo.json").write_text(content, encoding="utf-8")
    assert digest_again(folder) == content_digest(folder)


def test_memo_forgets_what_is_gone(folder: Path, read: list[str]) -> None:
    digest_again(folder)
    (folder / "a").unlink()
    (folder / "b").touch()
    digest_again(folder)
    assert str(folder / "a") not in (folder.parent / "memo.json").read_text(encoding="utf-8")
