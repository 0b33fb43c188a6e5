"""Patience: a visitor who does not read is cut off, whoever waits for the server is not."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from cnn.serving.web.server import ImpatientProtocol

LARGE = bytes(1 << 24)  # more than the buffers of a connection
PATIENCE = 0.2


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """``/whole``, ``/parts``: a large answer; ``/late``: a small one, later than anybody is waited for."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/late":
        await asyncio.sleep(2 * PATIENCE)
        return await send({"type": "http.response.body", "body": b"found"})
    if scope["path"] == "/parts":
        await send({"type": "http.response.body", "body": LARGE, "more_body": True})
    await send({"type": "http.response.body", "body": LARGE})


class Protocol(ImpatientProtocol):
    patience = PATIENCE
    buffer = 1 << 16

    def __init__(self, lost: asyncio.Event) -> None:
        super().__init__(uvicorn.Config(answer, ws="none", log_config=None), ServerState(), {})
        self._lost = lost

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(self.buffer)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._lost.set()


class RoomyProtocol(Protocol):
    buffer = 1 << 30


class FullProtocol(Protocol):
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.pause_writing()  # as the transport does, whose buffer is full for a moment
        self.resume_writing()


async def visit(protocol: type[Protocol], sent: bytes, more: bytes = b"") -> bytes:
    """What a visitor finds who reads nothing until the connection was lost, but goes on sending ``more``."""
    lost = asyncio.Event()
    server = await asyncio.get_running_loop().create_server(lambda: protocol(lost), "127.0.0.1", 0)
    async with server, asyncio.timeout(20):
        with socket.create_connection(server.sockets[0].getsockname()) as line:
            line.sendall(sent)
            while not lost.is_set():
                with suppress(OSError):
                    line.sendall(more)
                await asyncio.sleep(0.05)
            return b"" if more else line.recv(1 << 16)


def asked(path: str) -> bytes:
    return b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode()


@pytest.mark.parametrize(
    ("protocol", "sent", "more"),
    [
        (Protocol, asked("whole"), b""),
        (Protocol, asked("parts"), b""),
        (Protocol, asked("whole") + asked("whole"), b"\r"),
        (RoomyProtocol, asked("whole"), b""),
    ],
    ids=["whole", "parts", "pipelined", "buffered"],
)
def test_who_does_not_read_is_cut_off(protocol: type[Protocol], sent: bytes, more: bytes) -> None:
    asyncio.run(visit(protocol, sent, more))


@pytest.mark.parametrize("protocol", [Protocol, FullProtocol])
def test_who_waits_for_an_answer_is_not(protocol: type[Protocol]) -> None:
    assert b"found" in asyncio.run(visit(protocol, asked("late")))
