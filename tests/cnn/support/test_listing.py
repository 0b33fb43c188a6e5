"""Which files of a folder count."""

import os
import socket
from pathlib import Path

import pytest

from cnn.support.digests import content_digest
from cnn.support.listing import SYSTEM_NAMES, is_visible, list_files, mark_as_cache


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", sorted(SYSTEM_NAMES))
def test_system_names_are_not_listed_as_file_or_folder_in_any_case(name: str, tmp_path: Path) -> None:
    write(tmp_path / "1", f"a/{name}/x.png", f"{name.upper()}/y/z.png", "a/1.png")
    write(tmp_path / "2", f"a/{name}", "a/1.png")
    assert list_files(tmp_path / "1") == list_files(tmp_path / "2") == (["a/1.png"], {}, {})
    assert not is_visible(f"a/{name}/x.png") and is_visible(f"a/x{name}.png")


def test_pipes_sockets_and_devices_are_said_and_never_opened(tmp_path: Path) -> None:
    write(tmp_path, "a/1.png")
    os.mkfifo(tmp_path / "a/pipe.png")  # opening it would wait for ever
    (tmp_path / "a/link.png").symlink_to(tmp_path / "a/pipe.png")
    (tmp_path / "a/null.png").symlink_to("/dev/null")
    (tmp_path / "a/zero.png").symlink_to("/dev/zero")
    digest = content_digest(write(tmp_path / "plain", "a/1.png"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "a/s.png"))
        files, special, skipped = list_files(tmp_path / "a")
    assert (files, skipped) == (["1.png"], {})
    pipe, device = "a named pipe, not a file", "a device, not a file"
    assert special == {
        **{"pipe.png": pipe, "link.png": pipe, "null.png": device, "zero.png": device},
        "s.png": "a socket, not a file",
    }
    (tmp_path / "plain/a/pipe.png").symlink_to(tmp_path / "a/pipe.png")
    assert content_digest(tmp_path / "plain") == digest


def test_a_cache_is_skipped_unless_it_is_what_is_listed(tmp_path: Path) -> None:
    write(tmp_path, "a/1.png", "store/x/2.png")
    mark_as_cache(tmp_path / "store")
    mark_as_cache(tmp_path / "store")
    assert list_files(tmp_path) == (["a/1.png"], {}, {"store": "a cache, as its CACHEDIR.TAG says"})
    assert list_files(tmp_path / "store").files == ["CACHEDIR.TAG", "x/2.png"]
    first = (tmp_path / "store/CACHEDIR.TAG").read_bytes().splitlines()[0]
    assert first == b"Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/


@pytest.mark.parametrize("text", ["", "Signature: 0", " Signature: 8a477f597d28d172789f06886806bc55"])
def test_another_file_of_that_name_marks_nothing(text: str, tmp_path: Path) -> None:
    write(tmp_path, "a/1.png")
    (tmp_path / "a/CACHEDIR.TAG").write_text(text, encoding="utf-8")
    assert not list_files(tmp_path).skipped
    assert "a/1.png" in list_files(tmp_path).files


def test_published_models_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "models/cats/champion.json", "models/cats/v0001/plots.png")
    write(tmp_path, "copy/v0012/manifest.json", "copy/v0012/roc.png", "dog/manifest.json", "dog/v1/2.png")
    files, _, skipped = list_files(tmp_path)
    assert files == ["cat/1.png", "dog/manifest.json", "dog/v1/2.png"]
    assert skipped == dict.fromkeys(("models/cats", "copy/v0012"), "a model that was published")
