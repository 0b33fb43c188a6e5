"""A web server on loopback that gives files, breaks off, drips or is silent as it is told to."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Server:
    """What a loopback server gives by path, and the requests (path, range) that it received."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    break_after: dict[str, int] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    dripping: set[str] = field(default_factory=set)
    resumes: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return self.address + path


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state, wanted = self.server.state, self.headers.get("Range")  # type: ignore[attr-defined]
            state.requests.append((self.path, wanted))
            if self.path in state.silent:
                time.sleep(3)
            if self.path not in state.files:
                self.send_error(state.statuses.get(self.path, 404))
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
            for byte in body if self.path in state.dripping else b"":
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)
            self.wfile.write(body[: state.break_after.get(self.path, len(body))])

        def log_message(self, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client may hang up
    http.state = Server(f"http://127.0.0.1:{http.server_port}")  # type: ignore[attr-defined]
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield http.state  # type: ignore[attr-defined]
    http.shutdown()
