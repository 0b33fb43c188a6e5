"""An S3 server on loopback that fails as it is told to, and what was asked of it."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from cnn.support import objects
from cnn.support.remote import COPIES

BUCKET = "s3://bucket"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
#: What happens to a request in the place of its answer, or around it.
Fault = Callable[[dict[str, Any], Callable[..., Any], Application], Iterable[bytes]]


@dataclass
class Server:
    """The server, as an application that passes on to moto's what no fault is waiting for.

    Attributes:
        requests: method and path of each, with its query.
        sent: bytes of all answers.
        faults: used up one by one; each is for the next request that its first part, a method, is of.
        busy_every: one request of so many is refused for the moment; 0: none.
    """

    application: Application
    requests: list[str] = field(default_factory=list)
    sent: int = 0
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    busy_every: int = 0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        method = environ["REQUEST_METHOD"]
        self.requests.append(f"{method} {environ['PATH_INFO']}?{environ['QUERY_STRING']}")
        fault = next((each for each in self.faults if each[0] == method), None)
        if fault:
            self.faults.remove(fault)
        elif self.busy_every and len(self.requests) % self.busy_every == 0:
            fault = method, failing("503 Slow Down")
        answer = fault[1](environ, start, self.application) if fault else self.application(environ, start)
        for block in answer:
            self.sent += len(block)
            yield block

    def count(self, method: str) -> int:
        """How many requests of a method there were."""
        return sum(each.startswith(f"{method} ") for each in self.requests)


def failing(status: str, *, after: bool = False) -> Fault:
    """An error in the place of the answer; ``after``: what was asked for is done, and only its answer is lost."""

    def fault(environ: dict[str, Any], start: Callable[..., Any], application: Application) -> list[bytes]:
        if after:
            list(application(environ, lambda *_: None))
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start(status, [("Content-Length", "0")])
        return []

    return fault


def slow(environ: dict[str, Any], start: Callable[..., Any], application: Application) -> Iterable[bytes]:
    """The answer, a moment later."""
    time.sleep(0.3)
    return application(environ, start)


def cut(environ: dict[str, Any], start: Callable[..., Any], application: Application) -> Iterator[bytes]:
    """Half of the answer, and then the connection is closed."""
    body = b"".join(application(environ, start))
    yield body[: len(body) // 2]
    raise ConnectionError("cut on purpose")


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any, **__: Any) -> None: ...


@cache
def _start() -> tuple[Server, str]:
    """The server of this process, and its address."""
    application = Server(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    Thread(target=server.serve_forever, daemon=True).start()
    return application, f"http://127.0.0.1:{server.port}"


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server with an empty bucket, and an empty folder of working copies."""
    server, address = _start()
    server.faults.clear()  # those that the last test left would hit what follows
    server.busy_every = 0
    requests.post(f"{address}/moto-api/reset", timeout=10).raise_for_status()
    requests.put(f"{address}/bucket", timeout=10).raise_for_status()
    environment = {
        "AWS_ENDPOINT_URL": address,
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        COPIES: str(tmp_path / "copies"),
    }
    for name, value in {**environment, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(objects, "_RETRIES", {"max_retries": 4, "backoff": {"init_backoff": timedelta(seconds=0.01)}})
    objects._open_bucket.cache_clear()
    server.requests.clear()
    server.sent = 0
    return server


def another_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Go on with another folder of working copies, which is empty."""
    monkeypatch.setenv(COPIES, str(folder))
