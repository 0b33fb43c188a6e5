"""Working copies of what is in object storage, against an S3 server that fails as it is told to."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from object_storage import BUCKET, Server, another_machine, cut, failing, slow, storage  # noqa: F401

from cnn.support import remote
from cnn.support.digests import content_digest
from cnn.support.errors import TransientError, UserError
from cnn.support.objects import Object
from cnn.support.places import given_path, given_place
from cnn.support.references import Reference

NAMES = st.lists(st.text("ab.-é ", min_size=1).filter(lambda name: name not in (".", "..")), min_size=1, max_size=4)


@given(NAMES)
def test_addresses_stand_for_paths_and_back(names: list[str]) -> None:
    address = "s3://" + "/".join(names)
    assert remote.address_of(remote.local_path(address)) == address


WRONG = ["s3://", "s3:///a", "s3://bucket//a", "s3://bucket/../a"]


@pytest.mark.parametrize("address", WRONG)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="BUCKET"):
        remote.local_path(address)


@pytest.mark.parametrize("text", [*WRONG, "s3://bucket/" + "long/" * 100])
def test_places_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"BUCKET|characters long"):
        given_place(text)


def test_addresses_are_no_paths() -> None:
    with pytest.raises(ValueError, match="object storage is not taken here"):
        given_path("s3://bucket/labels.csv")


def make(files: dict[str, bytes], name: str = "features/1") -> Path:
    """A folder at an address, with files that were not shared yet."""
    folder = remote.local_path(f"{BUCKET}/store/{name}")
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    return folder


FILES = {"a.bin": bytes(range(256)) * 400, "inner/b.json": b"{}", "empty": b""}


def test_shared_folder_is_on_another_machine(storage: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Reference.to(make(FILES)).shared()
    another_machine(monkeypatch, tmp_path / "another")
    found = Reference.model_validate_json(made.model_dump_json())
    assert found.path != made.path and found.digest == made.digest
    assert found.is_intact() and not found.path.exists()
    found.fetch()
    assert content_digest(found.path) == made.checksum
    assert {name: (found.path / name).read_bytes() for name in FILES} == FILES


def test_checking_reads_no_file(storage: Server) -> None:
    made = Reference.to(make(FILES)).shared()
    storage.sent = 0
    assert made.is_intact()
    assert storage.sent < len(FILES["a.bin"]) / 10


def test_shared_again_nothing_is_put(storage: Server) -> None:
    made = Reference.to(make(FILES)).shared()
    storage.requests.clear()
    assert made.shared() == made
    assert storage.count("PUT") == storage.count("POST") == 0


@pytest.mark.parametrize("what", ["deleted", "altered", "contents deleted"])
def test_damage_is_noticed_and_repaired(what: str, storage: Server) -> None:
    made = Reference.to(make(FILES)).shared()
    folder = Object(f"{BUCKET}/store/features/1")
    name = next(name for name in folder.below() if name.endswith("a.bin"))
    if what == "altered":
        (folder / name).put(bytes(len(FILES["a.bin"])), "of another")
    else:
        folder.delete([name if what == "deleted" else remote.CONTENTS])
    assert not made.is_intact()
    assert made.shared() == made and made.is_intact()
    found = (folder / name).read()
    assert found and found[0] == FILES["a.bin"]


def test_damaged_working_copy_is_replaced(storage: Server) -> None:
    made = Reference.to(make(FILES)).shared()
    (made.path / "a.bin").write_bytes(b"other")
    (made.path / "more").write_bytes(b"left by another")
    assert made.is_intact()
    made.fetch()
    assert content_digest(made.path) == made.checksum


def test_what_was_removed_is_nowhere(storage: Server) -> None:
    made = Reference.to(make(FILES)).shared()
    remote.remove(made.path)
    assert not made.is_intact() and not made.path.exists() and Object(f"{BUCKET}/store").below() == {}


def test_the_first_of_two_writers_is_kept(storage: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Reference.to(make({"time": b"1"})).shared()
    another_machine(monkeypatch, tmp_path / "another")
    second = Reference.to(make({"time": b"2", "more": b""})).shared()
    assert second.checksum == second.digest == first.checksum
    assert (second.path / "time").read_bytes() == b"1" and not (second.path / "more").exists()


def test_writers_at_once_agree(storage: Server, tmp_path: Path) -> None:
    folders = []
    for number in range(4):
        folder = tmp_path / str(number) / "s3:" / "bucket" / "store" / "x"
        folder.mkdir(parents=True)
        (folder / "who").write_text(str(number), encoding="utf-8")
        folders.append(folder)
    with ThreadPoolExecutor() as pool:
        shared = list(pool.map(lambda folder: Reference.to(folder).shared(), folders))
    assert len({each.checksum for each in shared}) == 1
    assert all(each.is_intact() and content_digest(each.path) == each.checksum for each in shared)


class KilledError(BaseException):
    """Stands for a signal that cannot be caught."""


def test_killed_before_the_end_nothing_counts(storage: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Reference.to(make(FILES))
    put = Object.put

    def killed(self: Object, *arguments: object) -> object:
        if self.address.endswith(remote.CONTENTS):
            raise KilledError
        return put(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Object, "put", killed)
        made.shared()
    assert not made.is_intact()
    storage.requests.clear()
    assert made.shared().is_intact()
    assert storage.count("PUT") == 1  # its files were there already


@pytest.mark.parametrize(
    "fault", [failing("500 Internal Server Error"), failing("503 Slow Down"), slow, failing("500 Error", after=True)]
)
def test_puts_that_fail_once_succeed(fault: Callable[..., object], storage: Server) -> None:
    storage.faults += [("PUT", fault), ("PUT", fault), ("GET", fault)]  # type: ignore[list-item]
    made = Reference.to(make(FILES)).shared()
    assert made.is_intact() and not storage.faults
    shutil.rmtree(made.path)
    made.fetch()
    assert content_digest(made.path) == made.checksum


def test_download_goes_on_where_it_was_cut(storage: Server) -> None:
    size = 3_000_000
    made = Reference.to(make({"a.bin": bytes(range(250)) * (size // 250)})).shared()
    shutil.rmtree(made.path)
    for _ in range(2):
        storage.faults.append(("GET", lambda environ, start, app: app(environ, start)))  # contents.json
    storage.faults[1:] = [("GET", cut), ("GET", cut)]
    storage.sent = 0
    made.fetch()
    assert content_digest(made.path) == made.checksum
    assert size < storage.sent < 1.1 * size


def test_what_goes_on_failing_is_said(storage: Server) -> None:
    made = Reference.to(make(FILES))
    storage.faults += [("PUT", failing("503 Slow Down"))] * 50
    with pytest.raises(TransientError, match=r"s3://bucket/store/features/1.*503"):
        made.shared()
    storage.faults.clear()
    assert not made.is_intact()


def test_missing_bucket_is_said(storage: Server) -> None:
    with pytest.raises(UserError, match="s3://nowhere: there is no such bucket"):
        remote.require_writable(remote.local_path("s3://nowhere/store"), "store")
    remote.require_writable(remote.local_path(f"{BUCKET}/store"), "store")
    assert Object(f"{BUCKET}/store").below() == {}


def test_denied_access_is_said(storage: Server) -> None:
    storage.faults.append(("PUT", failing("403 Forbidden")))
    with pytest.raises(UserError, match="access is denied; check the credentials"):
        remote.require_writable(remote.local_path(f"{BUCKET}/store"), "store")


def test_object_replaced_while_it_is_read_is_read_again(storage: Server) -> None:
    file = remote.local_path(f"{BUCKET}/models/food/champion.json")
    place = Object(f"{BUCKET}/models/food/champion.json")
    place.put(b"first", sha256(b"first").hexdigest())

    def replaced(environ, start, application):  # type: ignore[no-untyped-def]
        place.put(b"second", sha256(b"second").hexdigest())
        return application(environ, start)

    storage.faults.append(("GET", replaced))
    remote.refresh(file)
    assert file.read_bytes() == b"second" and not storage.faults
