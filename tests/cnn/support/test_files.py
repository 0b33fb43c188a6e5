"""Files and folders that are written whole or not at all."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from cnn.support.errors import UserError
from cnn.support.files import (
    abandoned,
    atomic_file,
    atomic_folder,
    folder_size,
    locked,
    require_writable,
)
from cnn.support.listing import visible_files
from cnn.support.text import printable

ROOT = Path(__file__).parents[3]


def test_failed_file_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    with atomic_file(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("half of the sec")
        assert path.read_text() == "first"
        raise ZeroDivisionError
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_failed_folder_leaves_the_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for content in ("first", "second"):
        with atomic_folder(folder) as temporary:
            (temporary / content).write_text(content)
    with pytest.raises(ZeroDivisionError), atomic_folder(folder) as temporary:
        (temporary / "third").write_text("third")
        assert [file.name for file in folder.iterdir()] == ["second"]
        raise ZeroDivisionError
    assert [file.name for file in folder.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [folder]


def test_replaced_folder_is_there_at_any_time(tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    def replace(number: int) -> None:
        with atomic_folder(folder) as temporary:
            (temporary / "file").write_text("whole")

    replace(0)
    with ThreadPoolExecutor(2) as pool:
        replaced = [pool.submit(replace, number) for number in range(100)]
        while not all(each.done() for each in replaced):
            assert (folder / "file").read_text() == "whole"
    assert [each.exception() for each in replaced] == [None] * len(replaced)
    assert list(tmp_path.iterdir()) == [folder]


def test_existing_folder_may_be_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with atomic_folder(folder, existing="refuse") as temporary:
        (temporary / "file").write_text("first")
    with pytest.raises(OSError), atomic_folder(folder, existing="refuse") as temporary:
        (temporary / "file").write_text("second")
    assert (folder / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [folder]


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "file"), atomic_folder(tmp_path / "folder"):
        pass
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


# ---- what survives a power cut


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is flushed or renamed from now on: the event and the inode."""
    happened: list[tuple[str, int]] = []

    def spy(name: str, inode: Callable[..., int]) -> None:
        real = getattr(os, name)

        def spied(*arguments: object) -> None:
            happened.append((name, inode(*arguments)))
            real(*arguments)

        monkeypatch.setattr(os, name, spied)

    spy("fsync", lambda descriptor: os.fstat(descriptor).st_ino)
    for name in ("rename", "replace"):
        spy(name, lambda source, target: Path(source).stat().st_ino)
    return happened


def test_file_is_flushed_before_its_rename(tmp_path: Path, events: list[tuple[str, int]]) -> None:
    path = tmp_path / "file"
    with atomic_file(path) as temporary:
        temporary.write_text("text")
        assert not events
    inode, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert events == [("fsync", inode), ("replace", inode), ("fsync", folder)]


def test_folder_is_flushed_before_its_rename(tmp_path: Path, events: list[tuple[str, int]]) -> None:
    path = tmp_path / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "inner").mkdir()
        for name in ("file", "inner/file"):
            (temporary / name).write_text(name)
    (renamed,) = (number for number, (event, _) in enumerate(events) if event == "rename")
    members = {member.stat().st_ino for member in (path, *path.rglob("*"))}
    assert len(members) == 4 and {inode for _, inode in events[:renamed]} == members
    assert events[renamed:] == [("rename", path.stat().st_ino), ("fsync", tmp_path.stat().st_ino)]


# ---- what a killed process leaves

WRITE = """
import sys, time
from pathlib import Path
from cnn.support.files import atomic_file, atomic_folder

folder = Path(sys.argv[1])
with atomic_file(folder / "file") as file, atomic_folder(folder / "folder") as inside:
    file.write_text("half")
    (inside / "half").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Another process that is in the middle of writing ``file`` and ``folder``; it is killed afterwards."""
    command = [sys.executable, "-c", WRITE, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "writing\n"
            yield
        finally:
            process.kill()


def write_both(folder: Path) -> None:
    with atomic_file(folder / "file"), atomic_folder(folder / "folder"):
        pass


def test_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    with writing(tmp_path):
        temporary = set(tmp_path.iterdir())
        assert len(temporary) == 2 and not list(abandoned(tmp_path))
        write_both(tmp_path)
        assert set(tmp_path.iterdir()) == temporary | {tmp_path / "file", tmp_path / "folder"}  # its writer lives
    assert set(abandoned(tmp_path)) == set(abandoned(tmp_path.parent)) == temporary
    for path in ("file2", "fil", "older"):
        with atomic_file(tmp_path / path), atomic_folder(tmp_path / f"{path}.d"):
            pass
    assert set(abandoned(tmp_path)) == temporary  # they are not of these paths
    write_both(tmp_path)
    assert not any(path.exists() for path in temporary) and not list(abandoned(tmp_path))


def test_own_temporary_file_is_not_abandoned(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "file") as file, atomic_folder(tmp_path / "folder") as folder:
        (folder / "inner").mkdir()
        assert not list(abandoned(tmp_path))
        write_both(tmp_path)
        assert file.exists() and folder.exists()


# ---- what was deleted while it was written


def test_folder_that_was_deleted_is_not_taken_for_whole(tmp_path: Path) -> None:
    store = tmp_path / "store"
    refused = pytest.raises(FileNotFoundError, match="it was deleted while it was being written")
    with refused as raised, atomic_folder(store / "records") as temporary:
        with atomic_file(temporary / "train.rec") as file:
            file.write_text("train")
        shutil.rmtree(store)
        with atomic_file(temporary / "validation.rec") as file:  # which makes the folder again
            file.write_text("validation")
    assert raised.value.filename == str(store / "records")
    assert not any(path.is_file() for path in store.rglob("*"))


def test_file_that_was_deleted_is_not_taken_for_whole(tmp_path: Path) -> None:
    path = tmp_path / "store" / "file"
    with pytest.raises(FileNotFoundError, match="it was deleted while"), atomic_file(path) as temporary:
        temporary.write_text("first half")
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        with temporary.open("a", encoding="utf-8") as file:
            file.write("second half")
    assert not list(path.parent.iterdir())


# ---- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("名前 é.png", "名前 é.png"), ("👩\u200d🍳", "👩\u200d🍳"), ("a\nb\tc\r\x00", "a?b?c??"),
        ("\x1b[2J\x9b1m\x7f", "?[2J?1m?"),
        ("\u202egnp.exe\u2066", "?gnp.exe?"), ("caf\udce9", "caf?"), ("\udce7\udc8c\udcab", "猫"), ("\ud83d", "?"),
        ("a\u2028b", "a?b"),
    ],
)  # fmt: skip
def test_names_are_printed_without_an_effect(name: str, expected: str) -> None:
    assert printable(name) == expected
    assert (printable(expected) == expected and expected.isprintable()) or "\u200d" in expected


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "up").symlink_to(tmp_path)
    for name in ("z", "b/y", "b/c/x", ".hidden", "b/.hidden"):
        (tmp_path / name).touch()
    assert visible_files(tmp_path) == ["b/c/x", "b/y", "z"]


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        visible_files(tmp_path / "missing")


def test_size_is_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".hidden").write_bytes(bytes(70))
    (tmp_path / "file").write_bytes(bytes(8))
    assert (folder_size(tmp_path), folder_size(tmp_path / "file")) == (78, 8)


def test_second_lock_waits(tmp_path: Path) -> None:
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


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    require_writable(tmp_path / "new", "store")
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"store .*file/folder: cannot be written to"):
        require_writable(tmp_path / "file" / "folder", "store")
