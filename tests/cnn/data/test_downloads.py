"""Downloads from a server on loopback: order, resuming, verification, failures."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from file_server import Server, server  # noqa: F401  (a fixture)

import cnn.data.downloads as downloads
from cnn.data.catalog import CatalogFile
from cnn.data.downloads import available, fetch
from cnn.data.transfers import describe_failure
from cnn.support.errors import TransientError, UserError

CONTENT = bytes(range(256)) * 2000
PARTIAL = ".photos.zip.partial"


def catalogued(*addresses: str, name: str = "photos.zip", content: bytes = CONTENT) -> CatalogFile:
    return CatalogFile(name, addresses, "sha256", hashlib.sha256(content).hexdigest(), len(content))


def fetch_one(file: CatalogFile, folder: Path, mirror: str | None = None) -> Path:
    return fetch([file], folder, mirror, "Do something else.")


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_mirror_is_tried_first(server: Server, tmp_path: Path) -> None:
    server.files = {"/mirror/photos.zip": CONTENT, "/origin.zip": CONTENT}
    file = catalogued(server.url("/origin.zip"))
    path = fetch_one(file, tmp_path, server.url("/mirror"))
    assert path == tmp_path / "photos.zip" and path.read_bytes() == CONTENT
    paths = [path for path, _ in server.requests]
    assert paths.count("/mirror/photos.zip") == 2  # the probe and the download
    assert paths.count("/origin.zip") == 1


def test_addresses_are_tried_in_order(server: Server, tmp_path: Path) -> None:
    server.files = {"/b": CONTENT, "/a": CONTENT}
    fetch_one(catalogued(server.url("/b"), server.url("/a")), tmp_path)
    assert [path for path, _ in server.requests].count("/b") == 2


def test_intact_file_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": CONTENT}
    file = catalogued(server.url("/a"))
    path = fetch_one(file, tmp_path)
    received = len(server.requests)
    assert fetch_one(file, tmp_path) == path and available([file], tmp_path, None) == [file]
    assert len(server.requests) == received
    path.write_bytes(b"altered")
    assert fetch_one(file, tmp_path).read_bytes() == CONTENT


def test_folder_as_mirror_is_verified(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "photos.zip").write_bytes(CONTENT)
    assert fetch_one(catalogued(), tmp_path / "store", str(mirror)).read_bytes() == CONTENT
    (mirror / "photos.zip").write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(UserError, match="checksum mismatch: expected sha256") as refused:
        fetch_one(catalogued(), tmp_path / "other", str(mirror))
    assert not isinstance(refused.value, TransientError)  # the same bytes again would be no better
    assert not names(tmp_path / "other")


def test_path_in_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch_one(catalogued("~/a"), tmp_path / "store").read_bytes() == CONTENT


@pytest.mark.parametrize("resumes", [True, False])
@pytest.mark.parametrize("tenth", range(1, 10))
def test_broken_download_is_resumed(server: Server, tmp_path: Path, tenth: int, resumes: bool) -> None:
    end = len(CONTENT) * tenth // 10
    server.files, server.resumes, server.break_after = {"/a": CONTENT}, resumes, {"/a": end}
    file = catalogued(server.url("/a"))
    with pytest.raises(TransientError, match="the connection broke; the next attempt resumes"):
        fetch_one(file, tmp_path)
    assert names(tmp_path) == [PARTIAL]
    kept = (tmp_path / PARTIAL).stat().st_size
    assert end - 65_536 < kept <= end  # what was not flushed yet is lost
    server.break_after.clear()
    assert fetch_one(file, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("/a", f"bytes={kept}-" if kept else None)
    assert names(tmp_path) == ["photos.zip"]


def test_part_of_another_file_is_replaced(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": CONTENT}
    (tmp_path / PARTIAL).write_bytes(b"something else")
    assert fetch_one(catalogued(server.url("/a")), tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == ["photos.zip"]


def test_resumed_download_is_verified(server: Server, tmp_path: Path) -> None:
    """Both the resumed and the repeated download are refused, and then it ends."""
    server.files = {"/a": CONTENT[::-1]}
    (tmp_path / PARTIAL).write_bytes(CONTENT[:1000])
    with pytest.raises(UserError, match="checksum mismatch"):
        fetch_one(catalogued(server.url("/a")), tmp_path)
    assert server.requests[1:] == [("/a", "bytes=1000-"), ("/a", None)]
    assert not names(tmp_path)


def test_complete_part_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": CONTENT}
    (tmp_path / PARTIAL).write_bytes(CONTENT)
    assert fetch_one(catalogued(server.url("/a")), tmp_path).read_bytes() == CONTENT
    assert server.requests[1:] == [("/a", f"bytes={len(CONTENT)}-")]


def test_wrong_bytes_lead_to_the_next_address(server: Server, tmp_path: Path) -> None:
    server.files = {"/bad": CONTENT[::-1], "/good": CONTENT}
    urls = [server.url(f"/{name}") for name in ("missing", "bad", "good")]
    assert fetch_one(catalogued(*urls), tmp_path).read_bytes() == CONTENT
    with pytest.raises(UserError) as error:
        fetch_one(catalogued(*urls[:2]), tmp_path / "other")
    sentence = str(error.value)
    assert sentence.startswith(f"photos.zip could not be downloaded: tried {urls[0]} (HTTP 404); {urls[1]} (checksum")
    assert sentence.endswith(". Do something else.")
    assert not names(tmp_path / "other")


def test_file_of_unknown_size(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": CONTENT}
    file = replace(catalogued(server.url("/a")), size=None)
    assert fetch_one(file, tmp_path).read_bytes() == CONTENT


def test_file_of_unknown_size_that_never_ends(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MAX_UNKNOWN_BYTES", 100_000)
    server.files = {"/a": CONTENT}
    with pytest.raises(UserError, match="size mismatch: expected at most 100,000 bytes, received more") as refused:
        fetch_one(replace(catalogued(server.url("/a")), size=None), tmp_path)
    assert not isinstance(refused.value, TransientError) and not names(tmp_path)


@pytest.mark.parametrize("bound", ["BLOCK_SECONDS", "TOTAL_SECONDS"])
def test_body_that_drips_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(downloads, bound, 0.5)
    server.files, server.dripping = {"/a": CONTENT, "/b": CONTENT}, {"/a"}
    with pytest.raises(TransientError, match="no response in time; the next attempt resumes"):
        fetch_one(catalogued(server.url("/a")), tmp_path)
    assert fetch_one(catalogued(server.url("/a"), server.url("/b")), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("mirror", ["~nosuchuser", "x" * 300, "a\0b"])
def test_mirror_that_cannot_be_leads_to_the_next(server: Server, tmp_path: Path, mirror: str) -> None:
    server.files = {"/a": CONTENT}
    assert fetch_one(catalogued(server.url("/a")), tmp_path, mirror).read_bytes() == CONTENT


@pytest.mark.parametrize("address", ["http://", "http://" + "a" * 70, "http://[", "http://127.0.0.1:99999/"])
def test_address_that_is_none_leads_to_the_next(server: Server, tmp_path: Path, address: str) -> None:
    server.files = {"/a": CONTENT}
    assert fetch_one(catalogued(address, server.url("/a")), tmp_path / "one").read_bytes() == CONTENT
    with pytest.raises(UserError, match="is not valid") as refused:
        fetch_one(catalogued(address), tmp_path / "two")
    assert not isinstance(refused.value, TransientError)


def test_smaller_file_is_refused(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": CONTENT[:-1]}
    with pytest.raises(UserError, match=f"expected {len(CONTENT):,} bytes, received {len(CONTENT) - 1:,}"):
        fetch_one(catalogued(server.url("/a")), tmp_path)
    assert not names(tmp_path)


def test_larger_file_is_not_read_to_its_end(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": CONTENT * 20}
    with pytest.raises(UserError, match=rf"expected {len(CONTENT):,} bytes, received ([\d,]+)") as error:
        fetch_one(catalogued(server.url("/a")), tmp_path)
    received = int(re.findall(r"received ([\d,]+)", str(error.value))[0].replace(",", ""))
    assert len(CONTENT) < received < 19 * len(CONTENT)
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("status", "transient"), [(403, False), (404, False), (429, True), (499, False), (500, True), (503, True)]
)
def test_status_decides_whether_it_is_transient(server: Server, tmp_path: Path, status: int, transient: bool) -> None:
    server.statuses = {"/a": status}
    with pytest.raises(UserError, match=f"HTTP {status}") as error:
        fetch_one(catalogued(server.url("/a"), server.url("/missing")), tmp_path)
    assert isinstance(error.value, TransientError) == transient


def test_silent_server(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PROBE_SECONDS", 0.5)
    server.silent, server.files = {"/a"}, {"/a": CONTENT, "/b": CONTENT}
    silent, awake = server.url("/a"), server.url("/b")
    with pytest.raises(TransientError, match=r"no response within 0\.5 s"):
        fetch_one(catalogued(silent), tmp_path / "one")
    assert fetch_one(catalogued(silent, awake), tmp_path / "two").read_bytes() == CONTENT


def test_error_names_everything_that_was_tried(tmp_path: Path) -> None:
    files = [catalogued("http://127.0.0.1:9/x"), catalogued(str(tmp_path / "none"), name="other.zip")]
    assert available(files, tmp_path, None) == []
    with pytest.raises(TransientError) as error:
        fetch(files, tmp_path, "http://127.0.0.1:9/mirror", "Name your own.")
    assert str(error.value) == (
        "photos.zip or other.zip could not be downloaded: tried "
        "http://127.0.0.1:9/mirror/photos.zip (the server cannot be reached); "
        "http://127.0.0.1:9/x (the server cannot be reached); "
        "http://127.0.0.1:9/mirror/other.zip (the server cannot be reached); "
        f"{tmp_path / 'none'} (no such file). Name your own."
    )
    with pytest.raises(UserError, match="tried no address"):
        fetch_one(catalogued(), tmp_path)


def test_first_available_alternative_is_taken(server: Server, tmp_path: Path) -> None:
    server.files = {"/second": CONTENT, "/third": CONTENT}
    paths = ("/first", "/second", "/third")
    files = [catalogued(server.url(path), name=path.strip("/")) for path in paths]
    assert available(files, tmp_path, None) == files[1:]
    assert fetch(files, tmp_path, None, "").name == "second"


def test_alternative_that_is_present_is_taken(server: Server, tmp_path: Path) -> None:
    server.files = {"/first": CONTENT}
    files = [catalogued(server.url("/first")), catalogued(name="second.zip")]
    (tmp_path / "second.zip").write_bytes(CONTENT)
    assert fetch(files, tmp_path, None, "").name == "second.zip"
    assert not server.requests
    assert available(files, tmp_path, None) == files


def test_simultaneous_runs_download_once(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": CONTENT}
    file = catalogued(server.url("/a"))
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch_one(file, tmp_path), range(4)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert names(tmp_path) == ["photos.zip"]
    assert len(server.requests) <= 4 + 1  # each run probes, one downloads


def test_failures_are_described() -> None:
    response = requests.Response()
    response.status_code = 418
    assert describe_failure(requests.HTTPError(response=response)) == "HTTP 418"
    assert describe_failure(requests.ConnectTimeout()) == "no response in time"
    assert describe_failure(PermissionError(13, "Permission denied")) == "Permission denied"
    assert describe_failure(requests.exceptions.InvalidURL("no host")).endswith("is not valid: no host")
