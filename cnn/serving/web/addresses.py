"""Addresses: images that visitors point to, fetched from the public internet and from nowhere else."""

import asyncio
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from cnn.data.transfers import USER_AGENT

_PORTS = {"http": 80, "https": 443}
_AT_ONCE, _REDIRECTS, _BLOCK = 8, 5, 1 << 16
_UNQUOTED = "/?%:=&~+!$,;'@()*"  # RFC 3986, section 3.3
_MOVED = (301, 302, 303, 307, 308)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # RFC 4291; what embeds an IPv4 address is elsewhere, but 6to4
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")  # RFC 6890; Python 3.11 calls parts of it global


class AddressError(Exception):
    """An address is refused, or nothing comes from it; the message ends a sentence."""


class Fetcher:
    """Fetches for requests, a few at a time, on threads of its own: those of others never wait for a slow address."""

    def __init__(self, *, limit: int, seconds: float) -> None:
        self._limit, self._seconds, self._free = limit, seconds, _AT_ONCE
        self._pool = ThreadPoolExecutor(_AT_ONCE, "fetch")

    @asynccontextmanager
    async def fetched(self, address: str) -> AsyncIterator[bytes | None]:
        """As `fetch`, held in memory until the block ends; None: too many are being fetched or held."""
        if not self._free:
            yield None
            return
        self._free -= 1
        try:
            run = partial(fetch, address, limit=self._limit, seconds=self._seconds)
            yield await asyncio.get_running_loop().run_in_executor(self._pool, run)
        finally:
            self._free += 1


def fetch(address: str, *, limit: int, seconds: float) -> bytes:
    """What an address sends; blocks, at most ``seconds`` but for the look-up of a name.

    Names are looked up once, and the connection is made to what was found, so that no later answer of a name server
    counts. Every redirect is checked like the first address. Proxies that the environment names are not used.

    Raises:
        AddressError: it is not an http(s) address of the public internet, sends more than ``limit`` bytes, or nothing.
    """
    deadline = time.monotonic() + seconds
    try:
        for _ in range(_REDIRECTS + 1):
            found = _ask(address, limit, deadline)
            if isinstance(found, bytes):
                return found
            address = urljoin(address, found)
    except (OSError, http.client.HTTPException, ValueError) as error:  # no detail: it would describe our network
        raise AddressError("it does not answer, or not in time") from error
    raise AddressError(f"it redirects more than {_REDIRECTS} times")


def _ask(address: str, limit: int, deadline: float) -> bytes | str:
    """The body, or where the address redirects to."""
    parts = _checked(address)
    with _connected(parts, deadline) as connection:
        path = quote((parts.path or "/") + (parts.query and f"?{parts.query}"), safe=_UNQUOTED)
        connection.request("GET", path, headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        response = connection.getresponse()
        if response.status in _MOVED and (place := response.getheader("Location")):
            return place
        if response.status != 200:
            raise AddressError(f"it answers with HTTP {response.status}")
        data = bytearray()
        while block := response.read(_BLOCK):
            data += block
            if len(data) > limit:
                raise AddressError(f"it sends more than {limit >> 20} MiB")
        if time.monotonic() > deadline:  # what was cut off may look complete
            raise AddressError("it does not answer, or not in time")
        return bytes(data)


def _checked(address: str) -> SplitResult:
    parts = urlsplit(address)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise AddressError("expected an http or https address")
    if parts.username is not None or parts.port not in (None, _PORTS[parts.scheme]):
        raise AddressError("expected an address without a user and on the usual port")
    return parts


@contextmanager
def _connected(parts: SplitResult, deadline: float) -> Iterator[http.client.HTTPConnection]:
    """A connection to the public address that a name leads to; it ends at the deadline, whatever is sent on it."""
    assert parts.hostname
    name = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode()
    connection = http.client.HTTPConnection(name, _PORTS[parts.scheme])
    connection.default_port = connection.port  # so that Host does not name it
    place = (public_address(name, connection.port), connection.port)
    with socket.create_connection(place, timeout=max(0.01, deadline - time.monotonic())) as line:
        if parts.scheme == "https":
            context = ssl.create_default_context()
            line = context.wrap_socket(line, server_hostname=name, do_handshake_on_connect=False)
        end = threading.Timer(max(0.0, deadline - time.monotonic()), _shut, (line,))
        end.daemon = True
        end.start()
        try:
            if isinstance(line, ssl.SSLSocket):
                line.do_handshake()
            connection.sock = line
            yield connection
        finally:
            end.cancel()
            connection.close()
            line.close()


def _shut(line: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_RDWR)  # of the connection, also if a TLS handshake is under way


def public_address(name: str, port: int) -> str:
    """The first address that a name leads to.

    Raises:
        AddressError: it leads nowhere, or one of its addresses is not public.
    """
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        found = []
    if not found or not all(map(is_public, found)):
        raise AddressError("it leads to no public address")
    return found[0]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not of this machine or network, reserved, or multicast.

    >>> is_public("192.0.43.7"), is_public("10.0.0.1"), is_public("::ffff:10.0.0.1"), is_public("2002:a00:1::")
    (True, False, False, False)
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and (found not in _GLOBAL_UNICAST or found.sixtofour):
        return False
    if found in _PROTOCOLS:
        return False
    return found.is_global and not (found.is_multicast or found.is_reserved)
