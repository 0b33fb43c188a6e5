"""Transfers: what an address sends, received within bounds of time, and what was wrong with it in words."""

import errno
import http.client
import queue
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from typing import Any

import requests
import urllib3

from cnn.support.text import printable

#: What every request says of who asks; the version is that of ``pyproject.toml``.
USER_AGENT = f"hotdog-pipeline/0.1.0 python-requests/{requests.__version__}"
#: Whatever a server or an address can make `requests` raise.
FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError)
_TIMEOUT = (5.0, 15.0)  # seconds to connect, and between two packets
_BLOCK, _BLOCKS_AHEAD = 1 << 16, 4


def is_url(address: str) -> bool:
    """Whether an address is a URL and not a path.

    >>> is_url("https://example.org/a.zip"), is_url("HTTP://example.org"), is_url("photos/http/a.zip")
    (True, True, False)
    """
    return address.lower().startswith(("http://", "https://"))


def request(address: str, headers: Mapping[str, str] | None = None) -> requests.Response:
    """Ask an address; its body has not been read yet.

    Raises:
        One of `FAILURES`.
    """
    ours = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    return requests.get(address, stream=True, headers=ours | dict(headers or {}), timeout=_TIMEOUT)


class _Transfer:
    """A request that is made on another thread and handed over through a queue of few items."""

    def __init__(self, address: str, headers: Mapping[str, str] | None) -> None:
        self._items: queue.Queue[Any] = queue.Queue(_BLOCKS_AHEAD)
        self._given_up = threading.Event()
        threading.Thread(target=self._read, args=(address, headers), name="cnn-transfer", daemon=True).start()

    def _read(self, address: str, headers: Mapping[str, str] | None) -> None:
        try:
            with request(address, headers) as response:
                self._put(response)
                for block in response.iter_content(_BLOCK):
                    if not self._put(block):
                        return
            self._put(None)
        except Exception as error:  # raised again by the reader
            self._put(error)

    def _put(self, item: Any) -> bool:
        """Hand an item over; False if nobody waits for it any longer."""
        while not self._given_up.is_set():
            with suppress(queue.Full):
                self._items.put(item, timeout=0.5)
                return True
        return False

    def get(self, seconds: float) -> Any:
        """The next item: the response, blocks, None at the end."""
        try:
            item = self._items.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise requests.Timeout("too slow") from None
        if isinstance(item, Exception):
            raise item
        return item

    def give_up(self) -> None:
        """Let the thread end with its next block."""
        self._given_up.set()


def receive(
    address: str, headers: Mapping[str, str] | None = None, *, block_seconds: float, seconds: float
) -> Generator[requests.Response | bytes, None, None]:
    """The response of an address, then its body in blocks of 64 KiB.

    Reading happens on another thread, which is left alone when it is too late: neither a look-up of a name nor a server
    that sends a byte now and then can hold up the reader.

    Args:
        block_seconds: within so many the response, and then each block, has to be complete.
        seconds: within so many everything has to be.

    Raises:
        requests.Timeout: it was not.
        One of `FAILURES`.
    """
    transfer, deadline = _Transfer(address, headers), time.monotonic() + seconds
    try:
        while (item := transfer.get(min(block_seconds, deadline - time.monotonic()))) is not None:
            yield item
    finally:
        transfer.give_up()


def download(address: str, *, limit: int, seconds: float) -> bytes:
    """All bytes that an address sends.

    Raises:
        requests.Timeout: they were not there within so many ``seconds``.
        OSError: they are more than ``limit``.
        One of `FAILURES`.
    """
    response, *blocks = _bounded(receive(address, block_seconds=seconds, seconds=seconds), limit)
    assert isinstance(response, requests.Response)
    response.raise_for_status()
    return b"".join(block for block in blocks if isinstance(block, bytes))


def _bounded(items: Iterator[requests.Response | bytes], limit: int) -> Iterator[requests.Response | bytes]:
    size = 0
    for item in items:
        size += len(item) if isinstance(item, bytes) else 0
        if size > limit:
            raise OSError(errno.EFBIG, f"it is larger than {limit >> 20} MiB")
        yield item


def describe_failure(error: Exception) -> str:
    """Why a file or an address could not be read, as the end of a sentence.

    >>> describe_failure(requests.Timeout()), describe_failure(FileNotFoundError(2, "No such file or directory"))
    ('no response in time', 'No such file or directory')
    """
    if isinstance(error, requests.Timeout):
        return "no response in time"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError | http.client.HTTPException):
        return "the connection broke"
    if isinstance(error, requests.ConnectionError):
        return "the server cannot be reached"
    if isinstance(error, requests.TooManyRedirects):
        return "it redirects without an end"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"the address, or one that it leads to, is not valid: {printable(str(error)[:200])}"
