"""Champions that were damaged, and versions beside them."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from candidates import Made, edit, equal, exported_once, flip_bit, hotdog, models, other  # noqa: F401  (fixtures)

from cnn.publication.champions import champion, find_champion, is_due, promote
from cnn.publication.records import CHECKSUM, content_checksum, read_manifest
from cnn.publication.versions import load_version
from cnn.support.errors import UserError


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b"null", b"\xff", b'{"version": "../v0001"}', b"[" * 10**5]
)
def test_damaged_champion_file_is_restored(
    hotdog: Made, equal: Made, other: Made, models: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    hotdog.publish(models)
    second, third = equal.publish(models), other.publish(models)
    file = models / "food" / "champion.json"
    file.unlink() if content is None else file.write_bytes(content)
    assert find_champion(models, "food") == second
    assert other.publish(models) == third and champion(models / "food") == second
    assert "The champion is v0002, the newest intact version that was promoted." in caplog.text


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)], ids=["dir", "fifo", "loop"]
)
def test_what_is_no_file_is_never_opened(hotdog: Made, models: Path, make: Callable[[Path], None]) -> None:
    first = hotdog.publish(models)
    file = models / "food" / "champion.json"
    file.unlink()
    make(file)
    assert hotdog.publish(models) == first == champion(models / "food") == find_champion(models, "food")
    (first / "manifest.json").unlink()
    make(first / "manifest.json")
    assert hotdog.publish(models).name == "v0002" and (models / "food" / "damaged-v0001").is_dir()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def lose_files(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"files": {}}), encoding="utf-8")


@pytest.mark.parametrize("damage", [Path.unlink, empty, cut, flip_bit, lose_files])
def test_version_without_a_whole_manifest_is_set_aside(
    hotdog: Made,
    equal: Made,
    other: Made,
    models: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    first, second = hotdog.publish(models), equal.publish(models)
    damage(second / "manifest.json")
    third = other.publish(models)
    assert {path.name for path in (models / "food").iterdir()} == {"v0001", "damaged-v0002", "v0003", "champion.json"}
    assert third.name == "v0003" and champion(models / "food") == first
    assert f"{second}: its manifest.json" in caplog.text and "set aside as damaged-v0002" in caplog.text
    assert (models / "food" / "damaged-v0002" / "squeezenet.onnx").exists()
    damage(third / "manifest.json")
    third.rename(second)  # as if a copy had been put back
    assert equal.publish(models).name == "v0003"
    assert (models / "food" / "damaged-v0002-1").is_dir()


def test_manifest_of_another_release_is_left_where_it_is(
    hotdog: Made, other: Made, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = hotdog.publish(models)
    (first / "manifest.json").write_text('{"name": "food"}')
    assert other.publish(models).name == "v0002" and first.is_dir()
    assert f"{first}: is left out, as its manifest is of another release" in caplog.text


def test_champion_of_another_release_is_replaced_only_on_request(hotdog: Made, other: Made, models: Path) -> None:
    first = hotdog.publish(models)
    facts = read_manifest(first)
    facts["network"]["new"] = 1
    (first / "manifest.json").write_text(json.dumps(facts | {CHECKSUM: content_checksum(facts)}), encoding="utf-8")
    assert load_version(first).classes == ("hotdog", "not_hotdog")  # it still answers
    with pytest.raises(UserError, match=r'v0001: its manifest is of another release .* set promote to "always"'):
        other.publish(models)
    assert champion(models / "food") == first
    second = other.publish(models, promote="always")
    assert champion(models / "food") == second and (second / "report.html").exists()


def test_version_is_due_only_if_it_was_compared_with_the_champion(hotdog: Made, equal: Made, models: Path) -> None:
    first, second = hotdog.publish(models), equal.publish(models)
    promote(first)  # as if the process had been killed before it could promote the second
    assert is_due(second)
    edit(second, judgement=None)  # as if it had found no champion, and another machine has made one since
    assert not is_due(second)
    (models / "food" / "champion.json").unlink()
    assert is_due(second)
