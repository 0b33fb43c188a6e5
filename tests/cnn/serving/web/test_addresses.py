"""Addresses: only the public internet is ever asked, whatever a name, a redirect or a name server says."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cnn.serving.web import addresses
from cnn.serving.web.addresses import AddressError, fetch, is_public

PRIVATE = (
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.0.8", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "203.0.113.1",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::1",
    "2001::1", "100::1",
)  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_other_networks_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::1"])
def test_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail as soon as anything is connected to."""

    def connect(*_: Any, **__: Any) -> None:
        raise AssertionError("it was connected to")

    monkeypatch.setattr(socket, "create_connection", connect)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/", "http://localhost/", "https://[::1]/", "http://2130706433/", "http://0x7f.1/",
        "http://127.1/", "http://0/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/meta-data/",
        "http://0177.0.0.1/", "http://127.0.0.1.:80/", "http://localhost\u3002/", "file:///etc/passwd", "ftp://a.b/",
        "gopher://a.b/", "//a.b/", "", "http://", "http://a.b:22/", "https://a.b:80/", "http://user@a.b/",
        "http://8.8.8.8:x/", "http://[", "http://" + "a" * 300 + ".org/", "http://\x00/", "data:image/png,a",
    ],
)  # fmt: skip
def test_such_addresses_are_refused(nobody: None, address: str) -> None:
    with pytest.raises(AddressError):
        fetch(address, limit=100, seconds=5)


def test_a_name_with_one_private_address_is_refused(nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 80)) for each in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(AddressError, match="no public address"):
        fetch("http://example.org/", limit=100, seconds=5)


Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Answer]]:
    """Answers by path of a server that counts as the public internet, and is called ``public.example``."""
    answers: dict[str, Answer] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers[self.path](self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    port, resolve, connect = server.server_port, socket.getaddrinfo, socket.create_connection

    def resolve_once(name: str, *rest: Any, **kinds: Any) -> Any:
        if name != "public.example":
            return resolve(name, *rest, **kinds)
        names.append(name)
        answer = "8.8.8.8" if len(names) == 1 else "10.0.0.1"  # a name server that rebinds
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, 80))]

    def connect_here(place: tuple[str, int], **rest: Any) -> socket.socket:
        assert place in (("8.8.8.8", 80), ("8.8.8.8", 443))
        return connect(("127.0.0.1", port), **rest)

    names: list[str] = []
    monkeypatch.setattr(addresses.socket, "getaddrinfo", resolve_once)
    monkeypatch.setattr(addresses.socket, "create_connection", connect_here)
    yield answers
    server.shutdown()
    server.server_close()


def says(data: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def test_what_it_sends_is_fetched(site: dict[str, Answer]) -> None:
    site["/a%20b.png?c=d%20'"] = says(b"image")
    assert fetch("http://public.example/a b.png?c=d '", limit=5, seconds=5) == b"image"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_usual_port_is_not_named(site: dict[str, Answer], monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    class Plain:
        """No TLS: the connection as it is."""

        def wrap_socket(self, line: socket.socket, **_: object) -> socket.socket:
            return line

    monkeypatch.setattr(ssl, "create_default_context", Plain)
    site["/"] = lambda handler: says(handler.headers["Host"].encode())(handler)
    assert fetch(f"{scheme}://public.example/", limit=100, seconds=5) == b"public.example"


def test_a_name_that_is_rebound_is_refused(site: dict[str, Answer]) -> None:
    site["/"] = says(b"image")
    assert fetch("http://public.example/", limit=5, seconds=5) == b"image"  # connected to what was checked
    with pytest.raises(AddressError, match="no public address"):
        fetch("http://public.example/", limit=5, seconds=5)


@pytest.mark.parametrize("place", ["http://127.0.0.1/", "http://169.254.169.254/", "file:///etc/passwd", "//[::1]/"])
def test_redirects_are_checked(site: dict[str, Answer], place: str) -> None:
    site["/"] = says(b"", 302, Location=place)
    with pytest.raises(AddressError, match=r"public|expected"):
        fetch("http://public.example/", limit=5, seconds=5)


def test_a_redirect_is_looked_up_again(site: dict[str, Answer]) -> None:
    site["/"] = says(b"", 302, Location="/other")
    with pytest.raises(AddressError, match="no public address"):
        fetch("http://public.example/", limit=5, seconds=5)


def test_bytes_are_bounded(site: dict[str, Answer]) -> None:
    site["/"] = says(b"image!")
    with pytest.raises(AddressError, match="more than"):
        fetch("http://public.example/", limit=5, seconds=5)


@pytest.mark.parametrize("status", [404, 500, 204, 302])
def test_other_answers_are_none(site: dict[str, Answer], status: int) -> None:
    site["/"] = says(b"", status)
    with pytest.raises(AddressError, match=f"HTTP {status}"):
        fetch("http://public.example/", limit=5, seconds=5)


@pytest.mark.parametrize("slow", ["headers", "body"])
def test_seconds_are_bounded_for_who_sends_a_byte_now_and_then(site: dict[str, Answer], slow: str) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n" + (b"\r\n" if slow == "body" else b"X: "))
        for _ in range(200):
            try:
                handler.wfile.write(b"a")
            except OSError:
                return
            sent.append(1)
            time.sleep(0.05)
        ended.append(1)

    sent: list[int] = []
    ended: list[int] = []

    site["/"] = drip
    with pytest.raises(AddressError, match="in time"):
        fetch("http://public.example/", limit=1000, seconds=0.3)
    assert sent and not ended
