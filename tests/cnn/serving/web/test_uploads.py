"""Uploads: a request ends where it becomes too large, or too slow, whatever it says of itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI
from stub_predictor import application, encoded

from cnn.serving.web.uploads import Limits

LIMITS = Limits(size=1 << 16, images=3, seconds=0.2, waiting=4)
BLOCK = bytes(1 << 14)


class Sender:
    """An ASGI client that sends a body block by block and counts those that were taken."""

    def __init__(self, app: FastAPI, blocks: Callable[[], AsyncIterator[bytes]]) -> None:
        self._app, self._blocks, self.taken, self.messages = app, blocks, 0, []  # type: ignore[var-annotated]

    async def post(self, **headers: str) -> int:
        """The status of the answer."""
        blocks = self._blocks()

        async def receive() -> dict[str, Any]:
            block = await anext(blocks, None)
            self.taken += block is not None
            return {"type": "http.request", "body": block or b"", "more_body": block is not None}

        async def send(message: Any) -> None:
            self.messages.append(message)

        names = {"host": "testserver", "content_type": "image/png"} | headers
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/predict",
            "raw_path": b"/predict",
            "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in names.items()],
        }
        await self._app(scope, receive, send)
        status: int = self.messages[0]["status"]
        return status

    @property
    def detail(self) -> str:
        """The sentence of the problem."""
        return str(json.loads(b"".join(message.get("body", b"") for message in self.messages))["detail"])


def statuses(app: FastAPI, *senders: Sender, **headers: str) -> list[int]:
    """The statuses of the answers to senders that post at the same time."""

    async def run() -> list[int]:
        async with app.router.lifespan_context(app):
            return await asyncio.gather(*(sender.post(**headers) for sender in senders))

    return asyncio.run(run())


@pytest.fixture
def app(tmp_path: Any) -> FastAPI:
    return application(tmp_path, LIMITS)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield BLOCK


async def stalled() -> AsyncIterator[bytes]:
    while True:
        await asyncio.sleep(0.02)
        yield b"\0"


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=x"])
def test_an_endless_body_ends_at_the_limit(app: FastAPI, kind: str) -> None:
    async def form() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        async for block in endless():
            yield block

    sender = Sender(app, form if "form" in kind else endless)
    assert statuses(app, sender, content_type=kind) == [413]
    assert sender.taken <= 2 + LIMITS.size // len(BLOCK)


def test_a_body_that_says_it_is_too_large_is_not_read(app: FastAPI) -> None:
    sender = Sender(app, endless)
    assert statuses(app, sender, content_length=str(2 << 30)) == [413]
    assert sender.taken == 0


def test_a_slow_sender_is_cut_off(app: FastAPI) -> None:
    sender = Sender(app, stalled)
    assert statuses(app, sender) == [408]
    assert "0.2 seconds" in sender.detail


def test_all_bodies_together_are_bounded(tmp_path: Any) -> None:
    app = application(tmp_path, Limits(size=1 << 16, seconds=5))

    async def held() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield BLOCK
        await asyncio.sleep(0.2)
        yield b""

    found = statuses(app, *(Sender(app, held) for _ in range(12)))
    assert found.count(429) == 4 and found.count(422) == 8
    assert statuses(app, Sender(app, held)) == [422]  # what they held is free again


def test_a_form_in_pieces_of_a_byte_is_read(app: FastAPI) -> None:
    image = encoded()
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + image + b"\r\n--x--\r\n"

    async def bytewise() -> AsyncIterator[bytes]:
        for place in range(len(body)):
            yield body[place : place + 1]

    sender = Sender(app, bytewise)
    assert statuses(app, sender, content_type="multipart/form-data; boundary=x") == [200]
