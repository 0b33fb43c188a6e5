"""The guard: which requests come from a page of ours, and what a browser may do with our answers."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cnn.serving.web.problems import problem

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def names_of(host: str) -> frozenset[str] | None:
    """The names under which a server that listens at ``host`` answers; None: any, as others can reach it.

    >>> names_of("0.0.0.0"), "localhost" in (names_of("127.0.0.1") or ())
    (None, True)
    """
    return _LOOPBACK if host in _LOOPBACK else None


class Guard:
    """ASGI middleware: refuses what another site's page sends, and adds the headers of a strict site.

    A server for this machine alone answers only under its names: a page of another site whose name leads here (DNS
    rebinding) would else count as ours.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] | None) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        if self._names is not None and _name(f"//{headers.get('host', '')}") not in self._names:
            refusal = problem(421, "This server answers on this machine only: ask for localhost or 127.0.0.1.")
            await refusal(scope, receive, send_guarded)
        elif scope["method"] not in _SAFE and is_foreign(headers):
            refusal = problem(403, "Requests of another site's page are refused.")
            await refusal(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)


def is_foreign(headers: Headers) -> bool:
    """Whether a browser says that a page of another origin sent a request; what is no browser says nothing.

    >>> is_foreign(Headers({"sec-fetch-site": "same-origin"})), is_foreign(Headers({"origin": "null", "host": "a"}))
    (False, True)
    """
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
