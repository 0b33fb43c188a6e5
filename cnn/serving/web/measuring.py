"""Measuring: what the server says of itself to Prometheus."""

import time
from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cnn.serving.predictor import Predictor

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Measures:
    """Requests, seconds, images, the queue and the version, as they are at a request for them."""

    def __init__(self, predictor: Callable[[], Predictor], waiting: Callable[[], int]) -> None:
        disable_created_metrics()
        self._registry = CollectorRegistry()
        self._predictor = predictor
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "cnn_requests", "requests by route and status", ("route", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "cnn_request_seconds", "from headers to answer", ("route",), registry=self._registry, buckets=_SECONDS
        )
        self.images = Counter("cnn_images", "images that were answered", ("class",), registry=self._registry)
        self.novel = Counter("cnn_novel_images", "of these, unlike all training images", registry=self._registry)
        self._version = Gauge(
            "cnn_version_info", "the version that answers", ("model", "version"), registry=self._registry
        )
        Gauge("cnn_waiting_images", "accepted, not answered yet", registry=self._registry).set_function(waiting)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        version = self._predictor().version
        self._version.clear()
        self._version.labels(version.parent.name, version.name).set(1)
        return generate_latest(self._registry)


class Measured:
    """ASGI middleware that counts requests and their seconds."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app, self._measures = app, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 500

        async def send_measured(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, send_measured)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._measures.requests.labels(route, str(status)).inc()
            self._measures.seconds.labels(route).observe(time.perf_counter() - began)
