"""Downloads from a server on loopback: order, resuming, corruption, refusal, silence."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import cnn.downloads as downloads
from cnn.catalog import CatalogFile
from cnn.downloads import available, obtain
from cnn.errors import PassingError, UserError

CONTENT = bytes(range(256)) * 2000


@dataclass
class Server:
    """What a loopback server gives by path, and what it was asked."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    break_after: dict[str, int] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    resumes: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state, wanted = self.server.state, self.headers.get("Range")  # type: ignore[attr-defined]
            state.asked.append((self.path, wanted))
            if self.path in state.silent:
                time.sleep(3)
            if self.path not in state.files:
                self.send_error(404)
                return
            body, status = state.files[self.path], 200
            if wanted and state.resumes:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(body):
                    self.send_error(416)
                    return
                body, status = body[start:], 206
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.break_after.pop(self.path, len(body))])

        def log_message(self, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.handle_error = lambda *_: None  # type: ignore[method-assign]  # who hangs up is right to
    http.state = Server(f"http://127.0.0.1:{http.server_port}")  # type: ignore[attr-defined]
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield http.state  # type: ignore[attr-defined]
    http.shutdown()


def catalogued(*addresses: str, name: str = "photos.zip", content: bytes = CONTENT) -> CatalogFile:
    return CatalogFile(name, addresses, "sha256", hashlib.sha256(content).hexdigest(), len(content))


def bring(file: CatalogFile, folder: Path, mirror: str | None = None) -> Path:
    return obtain([file], folder, mirror, "Do something else.")


def test_the_mirror_is_asked_first_and_an_intact_file_is_not_brought_again(server: Server, tmp_path: Path) -> None:
    server.files = {"/mirror/photos.zip": CONTENT, "/origin.zip": CONTENT}
    file = catalogued(f"{server.address}/origin.zip")
    path = bring(file, tmp_path, f"{server.address}/mirror")
    assert path.read_bytes() == CONTENT and path.name == "photos.zip"
    assert not any(place == "/origin.zip" and number > 1 for number, (place, _) in enumerate(server.asked))
    asked = len(server.asked)
    assert bring(file, tmp_path) == path
    assert len(server.asked) == asked
    path.write_bytes(b"altered")
    assert bring(file, tmp_path).read_bytes() == CONTENT


def test_a_mirror_may_be_a_folder_and_is_verified_too(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "photos.zip").write_bytes(CONTENT)
    assert bring(catalogued(), tmp_path / "store", str(mirror)).read_bytes() == CONTENT
    (mirror / "photos.zip").write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(UserError, match=r"sha256 is .* and not") as refused:
        bring(catalogued(), tmp_path / "other", str(mirror))
    assert not isinstance(refused.value, PassingError)  # the same bytes again would be no better
    assert not list((tmp_path / "other").iterdir())


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_download_is_kept_and_goes_on_where_it_stopped(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumes: bool
) -> None:
    server.files, server.resumes, server.break_after = {"/a": CONTENT}, resumes, {"/a": 300_000}
    file = catalogued(f"{server.address}/a")
    monkeypatch.setattr(downloads, "probe", lambda candidates: dict.fromkeys(candidates))
    with pytest.raises(UserError, match="kept and resumed"):
        bring(file, tmp_path)
    (partial,) = tmp_path.iterdir()
    kept = partial.stat().st_size
    assert partial.name == ".photos.zip.partial" and 0 < kept <= 300_000
    assert bring(file, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == ("/a", f"bytes={kept}-")
    assert [path.name for path in tmp_path.iterdir()] == ["photos.zip"]


def test_wrong_bytes_are_refused_and_the_next_address_is_asked(server: Server, tmp_path: Path) -> None:
    server.files = {"/bad": CONTENT[::-1], "/good": CONTENT}
    addresses = [f"{server.address}/{name}" for name in ("missing", "bad", "good")]
    assert bring(catalogued(*addresses), tmp_path).read_bytes() == CONTENT
    with pytest.raises(UserError) as error:
        bring(catalogued(*addresses[:2]), tmp_path / "other")
    assert "HTTP 404" in str(error.value) and "sha256 is" in str(error.value)
    assert "Do something else." in str(error.value)
    assert not list((tmp_path / "other").iterdir())


def test_what_is_larger_than_the_catalog_says_is_not_read_to_its_end(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": CONTENT * 20}
    with pytest.raises(UserError, match=rf"([\d,]+) bytes came and not {len(CONTENT):,}") as error:
        bring(catalogued(f"{server.address}/a"), tmp_path)
    came = int(re.findall(r"([\d,]+) bytes came", str(error.value))[0].replace(",", ""))
    assert len(CONTENT) < came < 19 * len(CONTENT)
    assert not list(tmp_path.iterdir())


def test_a_kept_part_of_another_file_does_no_harm(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": CONTENT}
    (tmp_path / ".photos.zip.partial").write_bytes(b"something else")
    assert bring(catalogued(f"{server.address}/a"), tmp_path).read_bytes() == CONTENT


def test_a_whole_part_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": CONTENT}
    (tmp_path / ".photos.zip.partial").write_bytes(CONTENT)
    assert bring(catalogued(f"{server.address}/a"), tmp_path).read_bytes() == CONTENT


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_PROBE_SECONDS", 0.5)
    server.silent, server.files = {"/a"}, {"/a": CONTENT, "/b": CONTENT}
    silent, awake = f"{server.address}/a", f"{server.address}/b"
    with pytest.raises(PassingError, match="no answer within"):
        bring(catalogued(silent), tmp_path / "one")
    assert bring(catalogued(silent, awake), tmp_path / "two").read_bytes() == CONTENT


def test_nothing_reachable_is_one_sentence_with_everything_that_was_tried(tmp_path: Path) -> None:
    files = [catalogued("http://127.0.0.1:9/x"), catalogued(str(tmp_path / "none"), name="other.zip")]
    assert available(files, tmp_path, None) == []
    with pytest.raises(UserError) as error:
        obtain(files, tmp_path, "http://127.0.0.1:9/mirror", "Name your own.")
    for part in ("http://127.0.0.1:9/mirror/photos.zip", "http://127.0.0.1:9/x", "none", "cannot be reached"):
        assert part in str(error.value)


def test_the_first_alternative_that_can_be_had_is_taken(server: Server, tmp_path: Path) -> None:
    server.files = {"/second": CONTENT}
    files = [catalogued(f"{server.address}/first"), catalogued(f"{server.address}/second", name="second.zip")]
    assert available(files, tmp_path, None) == files[1:]
    assert obtain(files, tmp_path, None, "").name == "second.zip"
