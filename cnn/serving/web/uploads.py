"""Uploads: the images of a request, received within bounds of bytes, number and time."""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cnn.serving.web.messages import Address
from cnn.support.text import printable

FORM = "multipart/form-data"
_TEXT_BYTES = 1 << 10
#: What all requests together may hold, in requests of the greatest size.
_REQUESTS_HELD = 8
BUSY = {"Retry-After": "1"}


@dataclass(frozen=True)
class Limits:
    """What one request may take, and how many images may wait.

    Attributes:
        size: bytes of a request.
        images: in a request.
        seconds: in which a request has to be received.
        waiting: images of all requests that are not answered yet; more are refused.
    """

    size: int = 32 << 20
    images: int = 16
    seconds: float = 30.0
    waiting: int = 128


class Upload(NamedTuple):
    """An image as it was sent, and its name, empty if it has none."""

    name: str
    data: bytes


class BoundedBodies:
    """ASGI middleware: a request that sends too much or too slowly ends where its body is read.

    What the handler reads then raises an `HTTPException`: 413, 408, or 429 where all requests together hold too much.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits, self._held = app, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        received, ended = 0, False
        deadline = asyncio.get_running_loop().time() + self._limits.seconds
        length = Headers(scope=scope).get("content-length", "")

        async def receive_bounded() -> Message:
            nonlocal received, ended
            if ended:
                return await receive()
            self._require_small(int(length) if length.isdecimal() else 0)
            message = await self._in_time(receive, deadline)
            size, ended = len(message.get("body", b"")), not message.get("more_body", False)
            received, self._held = received + size, self._held + size
            self._require_small(received)
            if self._held > _REQUESTS_HELD * self._limits.size:
                raise HTTPException(429, "Too much is being received at the moment; try again in a second.", BUSY)
            return message

        try:
            await self._app(scope, receive_bounded, send)
        finally:
            self._held -= received

    def _require_small(self, size: int) -> None:
        if size > self._limits.size:
            raise HTTPException(413, f"A request may hold {self._limits.size >> 20} MiB; send fewer or smaller images.")

    async def _in_time(self, receive: Receive, deadline: float) -> Message:
        try:
            async with asyncio.timeout_at(deadline):
                return await receive()
        except TimeoutError:
            sentence = f"The request was not received within {self._limits.seconds:g} seconds; send less at a time."
            raise HTTPException(408, sentence, {"Connection": "close"}) from None


async def receive_form(request: Request, limits: Limits, *texts: str) -> tuple[list[Upload], list[str]]:
    """The files ``image`` of a form, one or more, and the short texts of these names; it may hold nothing else.

    Raises:
        HTTPException: 415, it is no form; 413, it holds too many files; 400, it is damaged; 422, it holds something
            else.
    """
    if media_type(request) != FORM:
        raise HTTPException(415, f"Expected {FORM}, found {printable(media_type(request)) or 'no content type'}.")
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=limits.images,
        max_fields=len(texts),
        max_part_size=_TEXT_BYTES,
    )
    parser.spool_max_size = limits.size  # never on disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            sentence = f"A request may hold {limits.images} images; send the others in another request."
            raise HTTPException(413, sentence) from error
        raise HTTPException(400, f"The form cannot be read: {printable(error.message)}") from error
    images = [each for each in form.getlist("image") if isinstance(each, UploadFile)]
    found = [each for each in map(form.get, texts) if isinstance(each, str)]
    if not images or len(found) < len(texts) or len(images) + len(found) < len(form.multi_items()):
        expected = " and ".join(["files named image", *(f"the text {text}" for text in texts)])
        raise HTTPException(422, f"The form must hold {expected}, and nothing else.")
    return [Upload(printable(each.filename or ""), await each.read()) for each in images], found


async def receive_images(request: Request, limits: Limits) -> list[Upload]:
    """The images of a request, one or more: the files ``image`` of a form, or the body itself.

    Raises:
        HTTPException: as `receive_form`; 422, there is none.
    """
    kind = media_type(request)
    if kind == FORM:
        return (await receive_form(request, limits))[0]
    if not kind.startswith("image/") and kind != "application/octet-stream":
        expected = f"{FORM} with files named image, or an image with its content type"
        raise HTTPException(415, f"Expected {expected}, found {printable(kind) or 'no content type'}.")
    data = b"".join([block async for block in request.stream()])
    if not data:
        raise HTTPException(422, "The body is empty: expected an image.")
    return [Upload("", data)]


async def receive_address(request: Request) -> str:
    """The address of an image, of a body ``{"url": …}``.

    Raises:
        HTTPException: 422, it is something else.
    """
    try:
        return Address.model_validate_json(await request.body()).url
    except ValidationError as error:
        raise HTTPException(422, 'Expected {"url": "https://…"}, found something else.') from error


def media_type(request: Request) -> str:
    """The content type of a request, without parameters; empty: it has none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
