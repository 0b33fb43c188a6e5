"""The application: one page, and an API that answers with the champion."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from cnn.data.decoding import NotAnImageError
from cnn.evaluation.answers import Answer
from cnn.publication.records import REPORT_PAGE
from cnn.serving.predictor import Predictor
from cnn.serving.web.addresses import AddressError, Fetcher
from cnn.serving.web.batching import Batcher, Busy, Undecodable
from cnn.serving.web.collection import Collection, CollectionFull
from cnn.serving.web.current import CurrentChampion
from cnn.serving.web.document import CORRECTION, IMAGES, complete_document
from cnn.serving.web.guard import Guard
from cnn.serving.web.measuring import Measured, Measures
from cnn.serving.web.messages import Collected, Health, Predictions, Readiness, Version
from cnn.serving.web.page import report_page, start_page
from cnn.serving.web.problems import described, handle_problems
from cnn.serving.web.uploads import (
    BUSY,
    BoundedBodies,
    Limits,
    Upload,
    media_type,
    receive_address,
    receive_form,
    receive_images,
)
from cnn.support.text import printable

_RECEIVING = (400, 403, 408, 413, 415, 421, 422, 429)


@dataclass(frozen=True)
class Service:
    """What the routes share."""

    champion: CurrentChampion
    limits: Limits
    batcher: Batcher
    measures: Measures
    collection: Collection | None
    fetcher: Fetcher | None


async def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


Shared = Annotated[Service, Depends(_service)]
routes, corrections = APIRouter(), APIRouter()


def create_app(
    champion: CurrentChampion,
    limits: Limits,
    *,
    names: frozenset[str] | None = None,
    collection: Collection | None = None,
    allow_urls: bool = False,
) -> FastAPI:
    """The ASGI application.

    Args:
        names: the names under which it answers; None: any.
        collection: where corrections are kept; None: they are not.
        allow_urls: whether images are fetched from the public internet.
    """
    fetcher = Fetcher(limit=limits.size, seconds=limits.seconds) if allow_urls else None
    batcher = Batcher(limits.waiting)
    measures = Measures(lambda: champion.predictor, lambda: batcher.waiting)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        watcher = asyncio.create_task(champion.watch())
        async with batcher.running():
            yield
        watcher.cancel()

    app = FastAPI(title="Hotdog", version="1", docs_url=None, redoc_url=None, lifespan=running)
    app.state.service = Service(champion, limits, batcher, measures, collection, fetcher)
    app.include_router(routes)
    if collection:
        app.include_router(corrections)
    handle_problems(app)
    app.add_middleware(BoundedBodies, limits=limits)
    app.add_middleware(Guard, names=names)
    app.add_middleware(Measured, measures=measures)
    complete_document(app, lambda: champion.predictor.classes, allow_urls)
    return app


@routes.get("/", response_class=HTMLResponse, responses=described(421))
async def page(service: Shared) -> Response:
    """The page for people."""
    html, policy = start_page(json.dumps(describe(service)))
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})


@routes.post(
    "/predict",
    response_model=Predictions,
    responses=described(*_RECEIVING, 500),
    openapi_extra={"requestBody": {"required": True, "content": IMAGES}},
)
async def predict(
    request: Request, service: Shared, evidence: Annotated[bool, Query(description="say where it looked")] = False
) -> Response:
    """Class and probabilities of one or several images; if one of them cannot be decoded, none is answered."""
    if service.fetcher and media_type(request) == "application/json":
        async with _fetched(service.fetcher, await receive_address(request)) as upload:
            return await _respond(service, [upload], evidence)
    return await _respond(service, await receive_images(request, service.limits), evidence)


async def _respond(service: Service, uploads: list[Upload], evidence: bool) -> Response:
    predictor = service.champion.predictor
    answers = await _answers(service, predictor, uploads)
    for answer in answers:
        service.measures.images.labels(answer.label).inc()
        service.measures.novel.inc(bool(answer.novel))
    side = _side(predictor) if evidence else None
    results = [_result(upload.name, answer, side) for upload, answer in zip(uploads, answers, strict=True)]
    return JSONResponse({"version": predictor.version.name, "results": results})


@asynccontextmanager
async def _fetched(fetcher: Fetcher, address: str) -> AsyncIterator[Upload]:
    name = printable(address)
    try:
        async with fetcher.fetched(address) as data:
            if data is None:
                raise HTTPException(429, "Too many addresses are being fetched; try again in a second.", BUSY)
            yield Upload(name, data)
    except AddressError as error:
        raise HTTPException(422, f"{name} cannot be fetched: {error}.") from error


async def _answers(service: Service, predictor: Predictor, uploads: list[Upload]) -> list[Answer]:
    try:
        return await service.batcher.answer(predictor, [upload.data for upload in uploads])
    except Busy as error:
        raise HTTPException(429, "Too many images wait for an answer; try again in a second.", BUSY) from error
    except Undecodable as error:
        name = uploads[error.number].name or f"image {error.number + 1}"
        raise HTTPException(422, f"{name} cannot be decoded: {error}.") from error


def _side(predictor: Predictor) -> float:
    """Side of the square that the network sees, as a share of an image's shorter side."""
    seen = predictor.facts["network"]["preprocessing"]
    return float(seen["crop"] / seen["short_side"])


def _result(name: str, answer: Answer, side: float | None) -> dict[str, Any]:
    result: dict[str, Any] = {"image": name} if name else {}
    result |= {"class": answer.label, "probabilities": answer.by_class, "novel": answer.novel}
    if side is not None:
        found = answer.evidence
        values = None if found is None else [[round(value, 4) for value in row] for row in found.tolist()]
        result["evidence"] = values and {"side": side, "values": values}
    return result


@routes.get("/version", response_model=Version, responses=described(421))
async def version(service: Shared) -> Any:
    """The version that answers, and how good it is: its metrics, with 95 % intervals."""
    return describe(service)


def describe(service: Service) -> dict[str, Any]:
    """A `Version`: which one answers, and how good it is."""
    predictor = service.champion.predictor
    facts = predictor.facts
    calibration, metrics = facts.get("calibration", {}), facts["metrics"]
    threshold = None
    if calibration.get("threshold") is not None:
        threshold = {"class": predictor.classes[calibration["positive"]], "probability": calibration["threshold"]}
    return {
        "name": predictor.version.parent.name,
        "version": predictor.version.name,
        "published": facts["created"],
        "classes": predictor.classes,
        "threshold": threshold,
        "positive": facts["positive"],
        "images": {split: found["images"] for split, found in metrics.items()},
        "metrics": {split: _figures(found) for split, found in metrics.items()},
        "collects": service.collection is not None,
    }


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    intervals = metrics.get("intervals", {})
    numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
    return {name: {"value": value, "interval": intervals.get(name)} for name, value in numbers.items()}


@routes.get("/report", response_class=HTMLResponse, responses=described(404, 421))
async def report(service: Shared) -> Response:
    """The report of the version that answers."""
    predictor = service.champion.predictor
    html = await asyncio.to_thread(_read_report, predictor)
    if html is None:
        raise HTTPException(404, f"{predictor.version.name} has no report, or it was altered since.")
    found = report_page(html)
    return HTMLResponse(found.html, headers={"Content-Security-Policy": found.policy})


def _read_report(predictor: Predictor) -> str | None:
    """The report as it was published, else None."""
    file, digest = predictor.version / REPORT_PAGE, predictor.facts["files"].get(REPORT_PAGE)
    content = file.read_bytes() if file.is_file() else b""
    return content.decode() if hashlib.sha256(content).hexdigest() == digest else None


@routes.get("/healthz", response_model=Health, responses=described(421))
async def healthz() -> Any:
    """The process is alive."""
    return {"status": "alive"}


@routes.get("/readyz", response_model=Readiness, responses=described(421, 503))
async def readyz(service: Shared) -> Any:
    """Images are answered, and by which version; 503 while too many wait."""
    if service.batcher.waiting >= service.batcher.limit:
        raise HTTPException(503, "Too many images wait for an answer; try again in a second.", BUSY)
    return {"version": service.champion.predictor.version.name, "problem": service.champion.problem}


@routes.get("/metrics", response_class=PlainTextResponse, responses=described(421))
async def metrics(service: Shared) -> Response:
    """Figures of the process in Prometheus' text format."""
    return Response(service.measures.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


@corrections.post(
    "/corrections",
    status_code=201,
    response_model=Collected,
    responses=described(*_RECEIVING, 500, 507),
    openapi_extra={"requestBody": {"required": True, "content": CORRECTION}},
)
async def correct(request: Request, service: Shared) -> Any:
    """Keep an image with its right label for the next training."""
    assert service.collection
    (image, *more), (label,) = await receive_form(request, service.limits, "label")
    if more:
        raise HTTPException(422, "Expected one image and its label, found several images.")
    classes = tuple(service.champion.predictor.classes)
    try:
        kept = await asyncio.to_thread(service.collection.keep, image.data, label, classes)
    except CollectionFull as error:
        raise HTTPException(507, f"{error}.") from error
    except NotAnImageError as error:
        raise HTTPException(422, f"{image.name or 'the image'} cannot be decoded: {error}.") from error
    except ValueError as error:
        raise HTTPException(422, f"{error}.") from error
    return {"label": label, "id": kept}
