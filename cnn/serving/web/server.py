"""The server: the application on a socket, until it has to stop."""

import asyncio
import logging
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from cnn.support.errors import UserError

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each damaged form

#: What was accepted has so many seconds to be answered once the server has to stop.
_GRACE = 60
#: More get 503: enough to fill the images that wait by default, which get 429; fewer than the files a process may open.
_CONNECTIONS = 512


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UserError: the port is in use, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        sentence = f"{host}:{port}: cannot listen there ({error.strerror}); name another --host or --port."
        raise UserError(sentence) from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited; else some answers take 40 ms more
    return listener


def serve(app: FastAPI, listener: socket.socket, seconds: float) -> None:
    """Answer until SIGINT or SIGTERM, and then what was accepted by then.

    Args:
        seconds: in which the headers of a request have to be received, and an answer has to be read.
    """

    class Protocol(ImpatientProtocol):
        patience = seconds

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        limit_concurrency=_CONNECTIONS,
    )
    uvicorn.Server(config).run([listener])


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that ends a connection whose visitor lets it wait for too long.

    For the headers of a request, for the rest of a body once it was refused, or for room to send an answer that is not
    read: uvicorn waits for them without an end.
    """

    patience = 30.0  # seconds
    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._see_whose_turn()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._see_whose_turn()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._see_whose_turn()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._see_whose_turn()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._see_whose_turn()

    def connection_lost(self, error: Exception | None) -> None:
        self._stay()
        super().connection_lost(error)

    def _see_whose_turn(self) -> None:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering and not self.flow.write_paused:
            self._stay()
        elif self._cut is None:
            self._cut = self.loop.call_later(self.patience, self.transport.abort)

    def _stay(self) -> None:
        if self._cut:
            self._cut.cancel()
            self._cut = None
